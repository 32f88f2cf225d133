import { constants, fstatSync, statfsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OpenOptions } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { type Fd, type Owned, open } from '../kernel/fd.ts';
import { isOnlyOpener, O_SUSPICIOUS, tryLock } from '../kernel/file-lock.ts';
import { LoopDevice, loopAttach, loopStatus } from '../kernel/loop.ts';
import { fstatx, statx } from '../kernel/statx.ts';
import { loopsOf } from './loops.ts';
import { OpenedDevice } from './opened-device.ts';
import { probeImage } from './probe.ts';
import type { ImageFacts } from './superblock.ts';

const BTRFS_SUPER_MAGIC = 0x9123683e;
/** How long another process's fork, or the last moment of a loop device, may keep the lock. */
const LOCK_WAITS_MS = [1, 5, 20, 50, 100, 200] as const;

type Options = {
  readonly sysRoot: string;
  readonly readOnly: boolean;
  readonly known: OpenOptions['known'];
  readonly signal: AbortSignal | undefined;
};

/**
 * A loop device of a regular file. The lock (flock) on the file's open file description goes into the loop driver with it and lasts as
 * long as the device, also when we die: at most one loop device an image is a fact that the kernel keeps, found in O(1).
 */
export async function openFile(path: string, options: Options): Promise<OpenedDevice> {
  using file = openRegular(path, options.readOnly);
  const found = await lockOrFind(file.fd, path, options);
  try {
    const facts = options.known ?? (await probeFile(file.fd, path, options.readOnly));
    if (found !== undefined) return new OpenedDevice(found, facts, true, found);
    requireNoOtherLoop(file.fd, path, options.sysRoot);
    options.signal?.throwIfAborted();
    const loop = await loopAttach(file.fd, {
      readOnly: options.readOnly,
      directIo: directIoPays(file.fd, path),
      name: path,
    });
    return new OpenedDevice(loop, facts, false, loop);
  } catch (error) {
    found?.[Symbol.dispose]();
    throw error;
  }
}

async function probeFile(file: Fd, path: string, readOnly: boolean): Promise<ImageFacts> {
  const facts = await probeImage(file, JSON.stringify(path));
  requireReplayable(facts, path, readOnly);
  return facts;
}

/**
 * Direct I/O makes no difference to an attach (measured), but keeps a volume's pages from standing in memory twice. The kernel does
 * without where it cannot: a file that shares blocks on XFS wants whole blocks, and ours are of 512 bytes for xfs images' sake. Never on
 * btrfs: pages that the file system above changes while they are written would break its checksums.
 *
 * btrfs shows device numbers of its own, of major 0: what has another is not asked. statfs(2) on XFS waits for what was deleted lately
 * to be reclaimed (0.3 ms an attach, measured).
 */
function directIoPays(file: Fd, path: string): boolean {
  return !fstatx(file).devno.startsWith('0:') || statfsSync(path).type !== BTRFS_SUPER_MAGIC;
}

function openRegular(path: string, readOnly: boolean): Owned<Fd> {
  const what = JSON.stringify(path);
  try {
    // Looked at before it is opened: opening a FIFO or a device node may do something.
    requireRegular(statx(path).mode, what);
    const file = open(path, (readOnly ? constants.O_RDONLY : constants.O_RDWR) | O_SUSPICIOUS);
    requireRegular(fstatSync(file.fd).mode, what);
    return file;
  } catch (error) {
    if (isMissing(error))
      throw new ShiftvolError('SV_VOLUME_NOT_FOUND', `Cannot open ${what}: there is no such file`, { cause: error });
    if (isNodeErrno(error, 'EROFS', 'EPERM', 'EACCES', 'ETXTBSY'))
      throw refused(`Cannot open ${what} for writing: it is read-only, accepted is a writable image`, {
        remedy: 'attach it read-only',
        cause: error,
      });
    if (isNodeErrno(error, 'ELOOP', 'ENXIO', 'EISDIR')) throw refused(`Cannot open ${what}: it is not a regular file`);
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return isErrno(error, 'ENOENT', 'ENOTDIR') || isNodeErrno(error, 'ENOENT', 'ENOTDIR');
}

const KINDS = new Map([
  [constants.S_IFLNK, 'a symbolic link'],
  [constants.S_IFDIR, 'a directory'],
  [constants.S_IFIFO, 'a FIFO'],
  [constants.S_IFSOCK, 'a socket'],
  [constants.S_IFCHR, 'a character device'],
  [constants.S_IFBLK, 'a block device'],
]);

function requireRegular(mode: number, what: string): void {
  const kind = KINDS.get(mode & constants.S_IFMT);
  if (kind !== undefined) throw refused(`Cannot use ${what} as an image: it is ${kind}, accepted is a regular file`);
}

/** Locks the file; or finds the loop device that has it locked, which is what doing this step twice comes to. */
async function lockOrFind(file: Fd, path: string, options: Options): Promise<LoopDevice | undefined> {
  for (const waitMs of [...LOCK_WAITS_MS, undefined]) {
    if (tryLock(file, 'exclusive', path)) return undefined;
    const loop = findLoop(file, path, options);
    if (loop !== undefined) return loop;
    if (waitMs !== undefined) await sleep(waitMs, undefined, options.signal ? { signal: options.signal } : {});
  }
  throw inUse(`Cannot use ${JSON.stringify(path)}: another program holds a lock on it`);
}

function findLoop(file: Fd, path: string, { sysRoot, readOnly }: Options): LoopDevice | undefined {
  const image = fstatSync(file, { bigint: true });
  for (const candidate of loopsOf(sysRoot, path)) {
    try {
      const loop = new LoopDevice(candidate.path, open(candidate.path, constants.O_RDONLY));
      const status = loopStatus(loop.fd);
      if (status.inode === image.ino && status.device === image.dev && status.readOnly === readOnly) return loop;
      loop[Symbol.dispose]();
      if (status.inode === image.ino && status.device === image.dev)
        throw inUse(
          `Cannot use ${JSON.stringify(path)}: it is ${candidate.path} already, ${readOnly ? 'writable' : 'read-only'}`,
        );
    } catch (error) {
      if (!isErrno(error, 'ENXIO') && !isNodeErrno(error, 'ENXIO', 'ENOENT')) throw error; // freed meanwhile
    }
  }
  return undefined;
}

/** Loop devices of other programs hold no lock; the kernel would let two of them write one image without a word. */
function requireNoOtherLoop(file: Fd, path: string, sysRoot: string): void {
  if (isOnlyOpener(file)) return;
  const [loop] = loopsOf(sysRoot, path);
  if (loop !== undefined)
    throw inUse(`Cannot use ${JSON.stringify(path)}: it is ${loop.path} already, set up by another program`);
}

/** @throws SV_IMAGE_REFUSED: read-only, but its journal has to be replayed, which writes */
export function requireReplayable(facts: ImageFacts, path: string, readOnly: boolean): void {
  if (!readOnly || facts.journal !== 'unclean') return;
  throw refused(
    `Cannot use ${JSON.stringify(path)} read-only: its ${facts.fsType} was not unmounted cleanly, accepted is a clean one`,
    { remedy: 'attach it writable once, so that its journal is replayed' },
  );
}

export function refused(text: string, facts: { remedy?: string; cause?: unknown } = {}): ShiftvolError {
  return new ShiftvolError('SV_IMAGE_REFUSED', text, { field: 'image', ...facts });
}

export function inUse(text: string, cause?: unknown): ShiftvolError {
  return new ShiftvolError('SV_VOLUME_IN_USE', text, { field: 'image', ...(cause === undefined ? {} : { cause }) });
}
