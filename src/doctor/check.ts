/** One question about this host, and its answer. Names are stable: monitoring looks for them. */
import { asError, explain, ShiftvolError } from '../errors.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';

export const TOPICS = [
  'host',
  'kernel',
  'limits',
  'tools',
  'ids',
  'runtime',
  'pool',
  'agent',
  'journal',
  'bus',
  'openstack',
] as const;
export type Topic = (typeof TOPICS)[number];

export type Check = {
  /** `kernel.idmap-xfs` */
  readonly check: `${Topic}.${string}`;
  /** false: something that is needed is missing. 'warn': it works, or part of it, or it could not be tried. */
  readonly ok: true | false | 'warn';
  readonly detail: string;
  /** What to do about it. */
  readonly remedy?: string;
};

type Name = Check['check'];

export const good = (check: Name, detail: string): Check => ({ check, ok: true, detail });
export const warn = (check: Name, detail: string, remedy?: string): Check => ({
  check,
  ok: 'warn',
  detail,
  ...(remedy === undefined ? {} : { remedy }),
});
export const bad = (check: Name, detail: string, remedy?: string): Check => ({
  check,
  ok: false,
  detail,
  ...(remedy === undefined ? {} : { remedy }),
});

export const notTried = (check: Name): Check =>
  warn(check, 'not tried: only root can', 'run "shiftvol doctor" as root');

/** Whether the process may try what only root may. */
export const isRoot = (): boolean => process.geteuid?.() === 0;

/**
 * What `look` finds; what it throws becomes a check that failed with that text, so that one fault hides no other. For one who is not root
 * "permission denied" is no fault of the host.
 */
export async function attempt(
  check: Name,
  look: () => Check | Promise<Check>,
  otherwise: { readonly ok: false | 'warn'; readonly remedy?: string } = { ok: false },
): Promise<Check> {
  try {
    return await look();
  } catch (error) {
    if (!isRoot() && isPermission(error)) return notTried(check);
    const { ok, remedy = asError(error).remedy } = otherwise;
    return { check, ok, detail: textOf(error), ...(remedy === undefined ? {} : { remedy }) };
  }
}

/** Without the remedy, which has a place of its own. */
function textOf(error: unknown): string {
  if (!(error instanceof ShiftvolError) || error.remedy === undefined) return explain(error);
  return explain(new ShiftvolError(error.code, error.message, error.cause === undefined ? {} : { cause: error.cause }));
}

function isPermission(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause)
    if (isErrno(e, 'EPERM', 'EACCES') || isNodeErrno(e, 'EPERM', 'EACCES')) return true;
  return false;
}
