/**
 * What has come from other hosts: `incoming/ATTACHMENT/` of the pool. A pass that has come whole is named in state.json, which is replaced
 * in one step; until then its bytes lie in `work`, beside a list of the blocks in it, and look like nothing that is finished.
 */
import {
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { ShiftvolError } from '../errors.ts';
import { isNodeErrno } from '../kernel/errno.ts';
import { type Fd, type Owned, open } from '../kernel/fd.ts';
import { tryLock } from '../kernel/file-lock.ts';
import { entries } from '../storage/clone.ts';
import { sync } from '../storage/import/staging.ts';
import { layout } from '../storage/layout.ts';
import { type Header, headerShape } from './header.ts';

/** A pass that came whole. `image`: a file beside state.json. `template`: its name on this host. */
const stateShape = z.strictObject({
  header: headerShape,
  template: z.string(),
  image: z.string().regex(/^image-[0-9a-f]{16}$/),
});
export type Received = z.infer<typeof stateShape>;
export type Pool = { readonly poolDir: string };

/** One receiver a volume: the lock ends with the process. */
export class Incoming implements Disposable {
  readonly directory: string;
  readonly #lock: Owned<Fd>;

  private constructor(directory: string, lock: Owned<Fd>) {
    this.directory = directory;
    this.#lock = lock;
  }

  /** @throws SV_LOCKED: another process receives it, or takes it over */
  static open({ poolDir }: Pool, attachment: string): Incoming {
    const directory = layout(poolDir).incomingDir(attachment);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const lock = open(directory, constants.O_RDONLY);
    if (tryLock(lock.fd, 'exclusive', directory)) return new Incoming(directory, lock);
    lock[Symbol.dispose]();
    throw new ShiftvolError('SV_LOCKED', `Cannot receive attachment ${attachment}: it is being received already`, {
      remedy: 'wait for the other import, or end it',
    });
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** The last pass that came whole. */
  get received(): Received | undefined {
    return readState(this.directory);
  }

  /** `work` is whole and on the disk: it becomes what was received, in the place of an earlier pass. */
  finish(header: Header, template: string): Received {
    const image = `image-${header.version.slice(0, 16)}`;
    renameSync(this.path('work'), this.path(image));
    const state: Received = { header, template, image };
    writeFileSync(this.path('state.json.new'), `${JSON.stringify(state)}\n`, { mode: 0o600, flush: true });
    renameSync(this.path('state.json.new'), this.path('state.json'));
    sync(this.directory);
    for (const name of readdirSync(this.directory))
      if (name !== image && name !== 'state.json') rmSync(this.path(name), { force: true });
    return state;
  }

  /** All of it: it has become an attachment, or nobody wants it. */
  remove(): void {
    for (const name of readdirSync(this.directory)) rmSync(this.path(name));
    rmSync(this.directory, { recursive: true });
  }

  [Symbol.dispose](): void {
    this.#lock[Symbol.dispose]();
  }
}

/** `state.received` is undefined where nothing came whole yet. */
export type Waiting = { readonly attachment: string; readonly directory: string; readonly received?: Received };

export function listIncoming({ poolDir }: Pool): readonly Waiting[] {
  const at = layout(poolDir);
  return entries(at.incoming).map(attachment => {
    const directory = at.incomingDir(attachment);
    const received = readState(directory);
    return { attachment, directory, ...(received && { received }) };
  });
}

/** What nobody goes on with: removed after a week. Returns the attachments. */
export function cleanIncoming(pool: Pool, now: number): readonly string[] {
  return listIncoming(pool).flatMap(({ attachment, directory }) => {
    if (now - statSync(directory).mtimeMs < STALE_MS) return [];
    using incoming = Incoming.open(pool, attachment);
    incoming.remove();
    return [attachment];
  });
}
const STALE_MS = 7 * 24 * 3_600_000;

function readState(directory: string): Received | undefined {
  const file = join(directory, 'state.json');
  try {
    const { success, data } = stateShape.safeParse(JSON.parse(readFileSync(file, 'utf8')));
    if (success && existsSync(join(directory, data.image))) return data;
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT')) return undefined;
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new ShiftvolError('SV_STORE', `Cannot read ${file}: it does not say what was received`, {
    remedy: `remove ${directory} and send the volume again`,
  });
}
