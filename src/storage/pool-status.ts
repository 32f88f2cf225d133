/** What a pool is and how it does: the directory where templates and snapshots lie. */
import { constants, existsSync, ftruncateSync, rmSync, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ShiftvolError } from '../errors.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { open } from '../kernel/fd.ts';
import { ficlone } from '../kernel/reflink.ts';
import { entries } from './clone.ts';
import { layout } from './layout.ts';
import { mountedHere } from './loop-of.ts';

export type PoolPaths = { readonly stateDir: string; readonly poolDir: string };

export type PoolStatus = {
  readonly poolDir: string;
  /** `image`: the loop-backed file; `host`: the file system that the directory is on anyway. */
  readonly kind: 'image' | 'host';
  readonly mounted: boolean;
  /** Whether a FICLONE was tried there and worked. */
  readonly reflink: boolean;
  readonly image?: {
    readonly path: string;
    readonly sizeBytes: number;
    readonly allocatedBytes: number;
    readonly hostFreeBytes: number;
  };
  readonly sizeBytes: number;
  readonly freeBytes: number;
  readonly templates: number;
  readonly snapshots: number;
  /** Saved snapshots of attachments. */
  readonly saved: number;
};

export const poolImage = (stateDir: string): string => join(stateDir, 'pool.img');

/**
 * Whether files in this directory can share extents, found out by doing it.
 * @throws SV_POOL_NOT_FOUND: no such directory; SV_HOST: its file system cannot
 */
export function checkPool(poolDir: string): void {
  const [from, to] = [join(poolDir, `.reflink-from-${process.pid}`), join(poolDir, `.reflink-to-${process.pid}`)];
  try {
    cloneOneBlock(from, to);
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR'))
      throw new ShiftvolError('SV_POOL_NOT_FOUND', `Cannot use the pool ${poolDir}: there is no such directory`, {
        remedy: 'set one up: "shiftvol pool create --size 20G"',
        cause: error,
      });
    if (!isErrno(error, 'EOPNOTSUPP', 'ENOTSUP', 'EINVAL', 'ENOTTY', 'EXDEV')) throw error;
    throw new ShiftvolError(
      'SV_HOST',
      `Cannot take snapshots in ${poolDir}: its file system cannot share extents, XFS and btrfs can`,
      {
        remedy: 'set up a pool: "shiftvol pool create --size 20G"',
        cause: error,
      },
    );
  } finally {
    rmSync(from, { force: true });
    rmSync(to, { force: true });
  }
}

/** @throws SV_POOL_NOT_FOUND */
export function poolStatus(paths: PoolPaths): PoolStatus {
  const room = poolRoom(paths);
  return { ...room, reflink: room.mounted && canReflink(paths.poolDir) };
}

/** What can be told without writing anything there: for those who ask often. @throws SV_POOL_NOT_FOUND */
export function poolRoom({ stateDir, poolDir }: PoolPaths): Omit<PoolStatus, 'reflink'> {
  const image = poolImage(stateDir);
  const file = statSync(image, { throwIfNoEntry: false });
  if (file === undefined && !existsSync(poolDir)) throw noPool(poolDir);
  const mounted = file === undefined || mountedHere(poolDir, image);
  const room = mounted ? statfsSync(poolDir) : undefined;
  const at = layout(poolDir);
  return {
    poolDir,
    kind: file === undefined ? 'host' : 'image',
    mounted,
    ...(file === undefined
      ? {}
      : {
          image: {
            path: image,
            sizeBytes: file.size,
            allocatedBytes: file.blocks * 512,
            hostFreeBytes: free(stateDir),
          },
        }),
    sizeBytes: room === undefined ? 0 : room.blocks * room.bsize,
    freeBytes: room === undefined ? 0 : room.bavail * room.bsize,
    templates: entries(at.templates).length,
    snapshots: countBelow(at.snapshots),
    saved: countBelow(at.saved),
  };
}

function countBelow(directory: string): number {
  return entries(directory).reduce((sum, name) => sum + entries(join(directory, name)).length, 0);
}

function cloneOneBlock(from: string, to: string): void {
  using source = open(from, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  ftruncateSync(source.fd, 4096);
  using target = open(to, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  ficlone(target.fd, source.fd, to);
}

function canReflink(poolDir: string): boolean {
  try {
    checkPool(poolDir);
    return true;
  } catch (error) {
    if (error instanceof ShiftvolError && error.code === 'SV_HOST') return false;
    throw error;
  }
}

function free(directory: string): number {
  const room = statfsSync(directory);
  return room.bavail * room.bsize;
}

const noPool = (poolDir: string): ShiftvolError =>
  new ShiftvolError('SV_POOL_NOT_FOUND', `Cannot find a pool: there is no ${poolDir}`, {
    remedy: 'set one up: "shiftvol pool create --size 20G"',
  });
