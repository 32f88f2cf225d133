import { mkdirSync, rmdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { KeyedQueue } from '../../engine/queue.ts';
import { ShiftvolError } from '../../errors.ts';
import { isErrno, isNodeErrno } from '../../kernel/errno.ts';
import { umount2Async } from '../../kernel/mount.ts';
import { statxIfThere } from '../../kernel/statx.ts';
import { runTool } from '../tool.ts';
import type { ConnectEnv } from './connector.ts';
import { entries } from './sysfs.ts';

/** mount.nfs itself tries for two minutes. */
const MOUNT_MS = 60_000;

/** Below the run directory. */
const SHARES = 'shares';

export type Share = {
  /** `HOST:/PATH` */
  readonly export: string;
  /** Where Cinder's own name for it is: one that somebody mounted there is used as it is. */
  readonly mountPoint: string;
  /** For mount.nfs, comma-separated. */
  readonly options: string;
};

/**
 * Mounted NFS shares. Those that we mount lie below the run directory: whose a mount is, is told by where it is, so that after a crash
 * too nothing of another's is unmounted. Ours goes with its last user: the kernel knows which files are in use, and we know who is
 * between the connection and the use.
 */
export class Shares {
  readonly #env: ConnectEnv;
  readonly #queue = new KeyedQueue(Number.POSITIVE_INFINITY);
  readonly #users = new Map<string, Set<string>>();

  constructor(env: ConnectEnv) {
    this.#env = env;
  }

  /** The directory in which the share is; undefined: not mounted. Looks at mounts only, and asks no server. */
  where(share: Share): string | undefined {
    return [this.#own(share), share.mountPoint].find(path => isMounted(path));
  }

  /** Mounts the share if nobody has, and keeps it for `user` until `letGo`. @throws SV_TOOL with mount.nfs' own words */
  async hold(share: Share, user: string, signal: AbortSignal | undefined): Promise<string> {
    return await this.#queue.run(share.mountPoint, async () => {
      const directory = this.where(share) ?? (await this.#mount(share, signal));
      const users = this.#users.get(share.mountPoint) ?? new Set();
      this.#users.set(share.mountPoint, users.add(user));
      return directory;
    });
  }

  async letGo(share: Share, user: string): Promise<void> {
    await this.#queue.run(share.mountPoint, async () => {
      const users = this.#users.get(share.mountPoint);
      users?.delete(user);
      if (users !== undefined && users.size > 0) return;
      this.#users.delete(share.mountPoint);
      await unmountIfUnused(this.#own(share));
    });
  }

  #own({ mountPoint }: Share): string {
    return join(this.#env.runDir, SHARES, basename(mountPoint));
  }

  async #mount(share: Share, signal: AbortSignal | undefined): Promise<string> {
    const directory = this.#own(share);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    // Ours last: of two that contradict each other the later one counts.
    const options = [...(share.options === '' ? [] : [share.options]), 'nodev', 'nosuid', 'noexec'].join(',');
    const deadline = AbortSignal.any([AbortSignal.timeout(MOUNT_MS), ...(signal ? [signal] : [])]);
    await runTool('mount.nfs', [share.export, directory, '-o', options], { signal: deadline });
    if (isMounted(directory)) return directory;
    throw new ShiftvolError('SV_CONNECTION', `Cannot mount the share ${share.export}: mount.nfs ended without it`);
  }
}

/** Unmounts shares of ours that nobody uses: what a crash between two steps may leave. Not while volumes are being connected. */
export async function cleanShares(runDir: string): Promise<void> {
  const directory = join(runDir, SHARES);
  for (const name of entries(directory)) await unmountIfUnused(join(directory, name));
}

function isMounted(path: string): boolean {
  return statxIfThere(path)?.mountRoot === true;
}

async function unmountIfUnused(directory: string): Promise<void> {
  try {
    if (isMounted(directory)) await umount2Async(directory, { lazy: false });
    rmdirSync(directory);
  } catch (error) {
    // EBUSY: other volumes of this share are in use, and the last of them takes it along. ENOENT: it was never ours.
    if (!isErrno(error, 'EBUSY') && !isNodeErrno(error, 'EBUSY', 'ENOENT')) throw error;
  }
}
