/** Freezes mounted file systems through a guard (freeze-guard.ts) that thaws them whatever becomes of this process. */
import { constants } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Freezer, Frozen } from '../engine/volume-ports.ts';
import { ShiftvolError } from '../errors.ts';
import { type Fd, type Owned, open } from '../kernel/fd.ts';
import { thawFileSystem } from '../kernel/freeze.ts';
import { statxIfThere } from '../kernel/statx.ts';
import { type RunningTool, startTool } from './tool.ts';

/** A guard that says nothing for so long after its deadline is stopped itself: then we thaw. */
const GRACE_MS = 2000;
/** The build leaves this string as it is: the extension is the one that this very file has. */
const GUARD = fileURLToPath(
  new URL(`./freeze-guard${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
);

export function freezer(): Freezer {
  return {
    async freeze(paths, { deadlineMs, signal }) {
      signal?.throwIfAborted();
      const freeze = new GuardedFreeze(paths, deadlineMs);
      try {
        await freeze.begin();
        signal?.throwIfAborted();
        return freeze;
      } catch (error) {
        await freeze[Symbol.asyncDispose]();
        throw error;
      }
    },

    async thaw(path) {
      if (statxIfThere(path)?.mountRoot !== true) return false;
      using mount = openMount(path);
      return thawFileSystem(mount.fd, path);
    },
  };
}

type Word = { readonly word: string; readonly rest: string };

class GuardedFreeze implements Frozen {
  readonly guardPid: number | undefined;
  readonly ended: Promise<void>;
  readonly #mounts: readonly { readonly path: string; readonly mount: Owned<Fd> }[];
  readonly #deadlineMs: number;
  readonly #guard: RunningTool;
  readonly #words: AsyncIterator<string>;
  #state: 'begun' | 'frozen' | 'over' = 'begun';

  constructor(paths: readonly string[], deadlineMs: number) {
    using opened = new DisposableStack();
    this.#mounts = paths.map(path => ({ path, mount: opened.use(openMount(path)) }));
    this.#deadlineMs = deadlineMs;
    this.#guard = startTool(process.execPath, ['--no-warnings', GUARD, `${deadlineMs}`, ...paths], {
      inherit: this.#mounts.map(({ mount }) => mount.fd),
      input: true,
      output: true,
    });
    this.guardPid = this.#guard.pid;
    opened.move();
    const { stdout } = this.#guard;
    if (!stdout) throw new ShiftvolError('SV_INTERNAL', 'Cannot hear the guard of a freeze: it has no standard output');
    this.#words = createInterface({ input: stdout })[Symbol.asyncIterator]();
    this.ended = this.#guard.done.then(
      () => this.#over(),
      () => this.#over('thaw'),
    );
  }

  get isFrozen(): boolean {
    return this.#state === 'frozen';
  }

  /** @throws SV_TIMEOUT: it cannot be done within the deadline; SV_BUSY: somebody else has frozen it */
  async begin(): Promise<void> {
    if ((await this.#hear()).word !== 'ready') throw lost();
    this.#guard.stdin?.write('freeze\n');
    const { word, rest } = await this.#hear();
    if (word === 'failed') throw refused(rest, this.#deadlineMs);
    if (word !== 'frozen') throw lost();
    if (this.#state === 'begun') this.#state = 'frozen';
    // Nothing but a guard that was stopped comes so late.
    const late = setTimeout(() => this.#guard.kill(), this.#deadlineMs + GRACE_MS);
    this.ended.finally(() => clearTimeout(late));
  }

  async thaw(): Promise<{ readonly frozenMs: number }> {
    this.#guard.stdin?.write('thaw\n');
    const { word, rest } = await this.#hear();
    await this.ended;
    if (word === 'thawed') return { frozenMs: Number(rest) };
    if (word !== 'expired') throw lost();
    throw new ShiftvolError(
      'SV_TIMEOUT',
      `Cannot hold the file system still for longer than ${this.#deadlineMs} ms: it was let go before the copy was done`,
      { remedy: 'try again, or with a longer deadline' },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#guard.stdin?.end();
    await this.ended;
  }

  /** A guard that ended as it should has thawed what it froze. One that was killed has not: then we do. */
  #over(how?: 'thaw'): void {
    this.#state = 'over';
    using mounts = new DisposableStack();
    for (const { path, mount } of this.#mounts) {
      mounts.use(mount);
      if (how === 'thaw') thawFileSystem(mount.fd, path);
    }
  }

  async #hear(): Promise<Word> {
    const { value, done } = await this.#words.next();
    if (done || typeof value !== 'string') return { word: '', rest: '' };
    const [word = '', ...rest] = value.split(' ');
    return { word, rest: rest.join(' ') };
  }
}

function openMount(path: string): Owned<Fd> {
  return open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
}

function lost(): ShiftvolError {
  return new ShiftvolError(
    'SV_INTERNAL',
    'Cannot go on with a freeze: its guard was killed, and everything was thawed',
    {
      remedy: 'try again',
    },
  );
}

const guardFailure = z.object({
  syncMs: z.number().optional(),
  errno: z.string().optional(),
  call: z.string().optional(),
  path: z.string().optional(),
});

function refused(text: string, deadlineMs: number): ShiftvolError {
  const { syncMs, errno = '', call = '', path = '' } = guardFailure.parse(JSON.parse(text));
  if (syncMs !== undefined)
    return new ShiftvolError(
      'SV_TIMEOUT',
      `Cannot hold the file system still: writing out what is dirty took ${syncMs} ms, with a deadline of ${deadlineMs} ms`,
      { remedy: 'try again when less is written, or with a longer deadline' },
    );
  if (errno === 'EBUSY')
    return new ShiftvolError('SV_BUSY', `Cannot freeze ${JSON.stringify(path)}: somebody else has frozen it`, {
      remedy: 'wait until it is thawed (fsfreeze --unfreeze)',
    });
  return new ShiftvolError('SV_KERNEL', `${call} ${path}: ${errno}`);
}
