/**
 * The one error class of shiftvol and its table of codes.
 *
 * Text form: "Cannot <verb> <what>: <what is>, <what is accepted>", no full stop, strings quoted, numbers with units.
 * What to do about it is `remedy`; the deeper reason is `cause`, never pasted into the text: `explain` walks it.
 */

/** Exit statuses of the command line, documented in README.md. */
export const EXIT = { done: 0, failed: 1, usage: 2, notFound: 3, conflict: 4, host: 5 } as const;
export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

type CodeFacts = { readonly exit: ExitStatus; readonly http: number; readonly retry: boolean; readonly means: string };
const usage = (means: string) => ({ exit: EXIT.usage, http: 400, retry: false, means }) as const;
const notFound = (means: string) => ({ exit: EXIT.notFound, http: 404, retry: false, means }) as const;
const conflict = (means: string, retry = true) => ({ exit: EXIT.conflict, http: 409, retry, means }) as const;
const failed = (means: string, retry = true) => ({ exit: EXIT.failed, http: 500, retry, means }) as const;
const host = (means: string) => ({ exit: EXIT.host, http: 501, retry: false, means }) as const;

/** Every code there is. A code is never reused for another meaning; README.md lists exactly these (a test compares). */
export const CODES = {
  SV_USAGE: usage('a command, option or argument is wrong'),
  SV_CONFIG: usage('the configuration is wrong; the text names file, line and key'),
  SV_MESSAGE: usage('a bus message or API request does not have the required shape'),
  SV_IDMAP_SYNTAX: usage('an idmap is not written in any form that is accepted'),
  SV_IDMAP_INVALID: usage(
    'an idmap overlaps, overflows, maps a host id below 65536, leaves the instance’s range or has too many extents',
  ),
  SV_TARGET_INVALID: usage('the target path inside the container is not absolute or not normal'),
  SV_IMAGE_REFUSED: usage('an image is of a kind that is not accepted, or carries what could act on the host'),
  SV_CONNECTION_INFO: usage(
    'the connection_info of a volume has a kind or a value that is not accepted; the text names the field',
  ),
  SV_CHECKSUM: usage('the contents do not have the expected checksum'),
  SV_OPENSTACK_REFUSED: usage(
    'an OpenStack service does not accept or permit what was asked; the text has its own words',
  ),
  SV_INSTANCE_NOT_FOUND: notFound('no instance of this name or uuid on this host'),
  SV_TEMPLATE_NOT_FOUND: notFound('no template of this name'),
  SV_VOLUME_NOT_FOUND: notFound('no such device or file'),
  SV_ATTACHMENT_NOT_FOUND: notFound('nothing of ours is attached there'),
  SV_OPENSTACK_NOT_FOUND: notFound('OpenStack has no such image, volume, snapshot or attachment'),
  SV_POOL_NOT_FOUND: notFound('no pool is set up here'),
  SV_SNAPSHOT_NOT_FOUND: notFound('no saved snapshot of this name'),
  SV_BUSY: conflict('a process or mount still uses it; the text names who'),
  SV_LOCKED: conflict('another shiftvol works on this state directory'),
  SV_TARGET_TAKEN: conflict('something else is attached at this target', false),
  SV_INSTANCE_EXISTS: conflict('another instance of this name exists', false),
  SV_TEMPLATE_EXISTS: conflict('a template of this name exists', false),
  SV_TEMPLATE_IN_USE: conflict('snapshots of this template exist', false),
  SV_SNAPSHOT_EXISTS: conflict('a saved snapshot of this name exists', false),
  SV_POOL_EXISTS: conflict('a pool exists here', false),
  SV_VOLUME_IN_USE: conflict('this device or file is mounted or attached elsewhere', false),
  SV_OPENSTACK_CONFLICT: conflict('an OpenStack service does not permit it in the present state', false),
  SV_RANGE_EXHAUSTED: conflict('no free id range is left for an instance', false),
  SV_RANGE_TAKEN: conflict('the id range overlaps one that is in use', false),
  SV_KERNEL: failed('a system call failed; the text has its name, the errno and the object'),
  SV_CONNECTION: failed('a volume could not be brought to this host, or not be let go'),
  SV_MOUNT: failed('the kernel refused to mount the file system; the text has the kernel’s own reason', false),
  SV_GROW: failed('the kernel refused to grow the file system; the text has the kernel’s own reason', false),
  SV_RUNTIME: failed('the container runtime refused or failed'),
  SV_BUS: failed('the message broker refused or failed'),
  SV_OPENSTACK: failed('an OpenStack service failed, or does not answer'),
  SV_OPENSTACK_AUTH: failed('Keystone does not accept the credentials, or a service the token', false),
  SV_AGENT: failed('the agent of this host does not answer, or not as an agent does'),
  SV_STORE: failed('the journal cannot be read or written'),
  SV_TOOL: failed('a helper program (mkfs, fsck, qemu-img, ...) failed', false),
  SV_DOWNLOAD: failed('a download failed'),
  SV_NO_SPACE: failed('the file system of the pool is full'),
  SV_TIMEOUT: failed('it took longer than allowed'),
  SV_CANCELLED: failed('it was interrupted, and undone'),
  SV_UNDO: failed('undoing failed; the journal stays open and recover goes on later'),
  SV_INTERNAL: failed('a fault of shiftvol itself', false),
  SV_HOST: host('this host lacks something that is needed; the text says what'),
  SV_RUNTIME_UNSUPPORTED: host('the runtime or this instance cannot take a mapped volume'),
} as const satisfies Record<string, CodeFacts>;
export type Code = keyof typeof CODES;

export type ErrorFacts = {
  /** Which field of the input is wrong, as a path: `extents[2].hostId`. */
  readonly field?: string;
  /** What the reader can do about it, as an imperative: `choose a host id in 200000-265535`. */
  readonly remedy?: string;
  readonly cause?: unknown;
};

export class ShiftvolError extends Error {
  readonly code: Code;
  readonly field: string | undefined;
  readonly remedy: string | undefined;

  constructor(code: Code, message: string, facts: ErrorFacts = {}) {
    super(message, 'cause' in facts ? { cause: facts.cause } : undefined);
    this.name = 'ShiftvolError';
    this.code = code;
    this.field = facts.field;
    this.remedy = facts.remedy;
  }

  get exit(): ExitStatus {
    return CODES[this.code].exit;
  }
}

/** True for a ShiftvolError, of one of `codes` where some are given. */
export function isError(error: unknown, ...codes: readonly Code[]): error is ShiftvolError {
  return error instanceof ShiftvolError && (codes.length === 0 || codes.includes(error.code));
}

/** Any thrown value as a ShiftvolError: ours as it is, an abort as SV_CANCELLED or SV_TIMEOUT, all else as SV_INTERNAL. */
export function asError(error: unknown): ShiftvolError {
  if (error instanceof ShiftvolError) return error;
  if (error instanceof SuppressedError) return asError(error.suppressed);
  if (error instanceof Error && error.name === 'AbortError')
    return new ShiftvolError('SV_CANCELLED', 'Cancelled', { cause: error });
  if (error instanceof Error && error.name === 'TimeoutError')
    return new ShiftvolError('SV_TIMEOUT', 'It took longer than allowed', { cause: error });
  return new ShiftvolError('SV_INTERNAL', error instanceof Error ? error.message : String(error), { cause: error });
}

/** One line for a person: the text, the causes behind it, and what to do. */
export function explain(error: unknown): string {
  const { text, remedy } = unfold(error);
  return text + (remedy === undefined ? '' : ` (${remedy})`);
}

/** The texts of an error and its causes in one line, each once, and the first remedy among them. Of a failed undo both sides. */
function unfold(error: unknown): { readonly text: string; readonly remedy: string | undefined } {
  const texts: string[] = [];
  let remedy: string | undefined;
  const walk = (e: unknown): void => {
    if (e instanceof SuppressedError) {
      walk(e.suppressed);
      walk(e.error);
      return;
    }
    const text = e instanceof Error ? e.message : String(e);
    if (!texts.some(t => t.includes(text))) texts.push(text);
    if (e instanceof ShiftvolError) remedy ??= e.remedy;
    if (e instanceof Error && e.cause !== undefined) walk(e.cause);
  };
  walk(error);
  return { text: texts.join(': ').replaceAll('\n', ' '), remedy };
}

/** The stable form in which errors are told: `--json`, the HTTP API, the bus and the journal. */
export type ErrorReport = {
  readonly code: Code;
  readonly message: string;
  readonly field?: string;
  readonly remedy?: string;
};
export function report(error: unknown): ErrorReport {
  const { code, field } = asError(error);
  const { text, remedy } = unfold(error);
  return {
    code,
    message: text,
    ...(field === undefined ? {} : { field }),
    ...(remedy === undefined ? {} : { remedy }),
  };
}
