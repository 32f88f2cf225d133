/**
 * The pool: the directory where templates and snapshots lie, on a file system that can share extents. Where the host has none there,
 * it is an XFS in the file `pool.img` of the state directory, reached through a loop device that goes with the mount.
 */
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  rmSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShiftvolError } from '../errors.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { type Fd, open } from '../kernel/fd.ts';
import { tryLock } from '../kernel/file-lock.ts';
import { loopSetCapacity } from '../kernel/loop-capacity.ts';
import { moveMount, umount2Async } from '../kernel/mount.ts';
import { statx } from '../kernel/statx.ts';
import { loopOf, mountedHere } from './loop-of.ts';
import { type PoolPaths, type PoolStatus, poolImage, poolStatus } from './pool-status.ts';
import { mountPrivately } from './private-mount.ts';
import { runTool } from './tool.ts';

type SizeOptions = { readonly sizeBytes: number; readonly signal?: AbortSignal };

/** mkfs.xfs refuses less than 300 MB; below this there is no room for a template. */
export const SMALLEST_POOL = 512 * 2 ** 20;
const MOUNT_WAIT_MS = 10_000;

/**
 * Mounts the pool's image again after a reboot. Nothing to do where there is no image, or where it is mounted. Safe to call from two
 * processes at once: the image's lock lets one of them mount, the other waits for it.
 * @throws SV_BUSY: the image is mounted somewhere else; SV_MOUNT
 */
export async function ensurePool(paths: PoolPaths, signal?: AbortSignal): Promise<void> {
  const image = poolImage(paths.stateDir);
  const deadline = performance.now() + MOUNT_WAIT_MS;
  while (existsSync(image) && !mountedHere(paths.poolDir, image)) {
    signal?.throwIfAborted();
    try {
      await mountPool(image, paths.poolDir);
    } catch (error) {
      const late = performance.now() > deadline;
      if (late || !(error instanceof ShiftvolError && error.code === 'SV_BUSY')) throw error;
      await sleep(20, undefined, { signal });
    }
  }
}

/** Makes the image, its file system and the mount. All or nothing. @throws SV_USAGE, SV_POOL_EXISTS, SV_LOCKED, SV_NO_SPACE, SV_TOOL */
export async function createPool(paths: PoolPaths, { sizeBytes, signal }: SizeOptions): Promise<PoolStatus> {
  planPool(paths, sizeBytes);
  const image = poolImage(paths.stateDir);
  const unfinished = `${image}.new`;
  mkdirSync(paths.stateDir, { recursive: true, mode: 0o700 });
  using file = open(unfinished, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  if (!tryLock(file.fd, 'exclusive', unfinished))
    throw new ShiftvolError('SV_LOCKED', `Cannot create a pool: another shiftvol is creating ${image}`);
  try {
    // What an interrupted creation left is ours to write over: it never had the image's name.
    ftruncateSync(file.fd, 0);
    ftruncateSync(file.fd, sizeBytes);
    await runTool('mkfs.xfs', ['-q', '-m', 'crc=1,reflink=1', '-L', 'shiftvol', unfinished], { signal });
    fsyncSync(file.fd);
    linkSync(unfinished, image);
  } catch (error) {
    throw isNodeErrno(error, 'EEXIST') ? exists(image) : error;
  } finally {
    rmSync(unfinished, { force: true });
  }
  // The lock is on the file, whatever its name: let go, so that the mount can take it.
  file[Symbol.dispose]();
  syncDirectory(paths.stateDir);
  try {
    await mountPool(image, paths.poolDir);
  } catch (error) {
    unlinkSync(image);
    throw error;
  }
  return poolStatus(paths);
}

/** What `createPool` would refuse, without doing anything. */
export function planPool(paths: PoolPaths, sizeBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < SMALLEST_POOL)
    throw new ShiftvolError('SV_USAGE', `Cannot create a pool of ${sizeBytes} bytes: at least 512 MiB are needed`, {
      field: 'size',
    });
  const image = poolImage(paths.stateDir);
  if (existsSync(image)) throw exists(image);
  if (!existsSync(paths.poolDir)) return;
  mustBeFree(paths.poolDir);
}

/** Makes the image and the file system in it larger, while they are in use. Never smaller. @throws SV_USAGE, SV_POOL_NOT_FOUND, SV_TOOL */
export async function growPool(paths: PoolPaths, { sizeBytes, signal }: SizeOptions): Promise<PoolStatus> {
  planGrowth(paths, sizeBytes);
  const image = poolImage(paths.stateDir);
  await ensurePool(paths, signal);
  const device = loopOf(paths.poolDir);
  if (device === undefined) throw noImage(image);
  using file = open(image, constants.O_RDWR);
  ftruncateSync(file.fd, sizeBytes);
  fsyncSync(file.fd);
  using loop = open(device.path, constants.O_RDONLY);
  loopSetCapacity(loop.fd, device.path);
  // Repeated after an interruption it does what is left to do: each of the three takes the size as it finds it.
  await runTool('xfs_growfs', [paths.poolDir], { signal });
  return poolStatus(paths);
}

/** What `growPool` would refuse, without doing anything. */
export function planGrowth(paths: PoolPaths, sizeBytes: number): void {
  const image = poolImage(paths.stateDir);
  const now = statSync(image, { throwIfNoEntry: false })?.size;
  if (now === undefined) throw noImage(image);
  if (Number.isSafeInteger(sizeBytes) && sizeBytes >= now) return;
  throw new ShiftvolError('SV_USAGE', `Cannot grow the pool to ${sizeBytes} bytes: it has ${now}, and never shrinks`, {
    field: 'size',
  });
}

/** Unmounts and deletes an image that holds no template and no snapshot. @throws SV_POOL_NOT_FOUND; SV_BUSY: not empty, or in use */
export async function removePool(paths: PoolPaths): Promise<void> {
  const { image } = await planPoolRemoval(paths);
  try {
    await umount2Async(paths.poolDir, { lazy: false });
  } catch (error) {
    if (!isErrno(error, 'EBUSY')) throw error;
    throw new ShiftvolError('SV_BUSY', `Cannot remove the pool: something works in ${paths.poolDir}`, { cause: error });
  }
  using file = open(image, constants.O_RDWR);
  if (!(await lockedSoon(file.fd, image)))
    throw new ShiftvolError('SV_BUSY', `Cannot remove the pool: another mount namespace still has ${image} mounted`, {
      remedy: 'stop what was started while the pool was mounted, then try again',
    });
  unlinkSync(image);
  // A second name of the same file, where a creation was killed between giving it one and taking the other.
  rmSync(`${image}.new`, { force: true });
  rmdirSync(paths.poolDir);
}

/** The loop device lets go of the image a moment after the last unmount, and a program just being started may hold a copy of it. */
async function lockedSoon(file: Fd, image: string): Promise<boolean> {
  for (let attempt = 0; attempt < 20; attempt++) {
    if (tryLock(file, 'exclusive', image)) return true;
    await sleep(50);
  }
  return false;
}

/** What `removePool` would refuse; mounts the pool to look into it. */
export async function planPoolRemoval(paths: PoolPaths): Promise<{ readonly image: string }> {
  const image = poolImage(paths.stateDir);
  if (!existsSync(image)) throw noImage(image);
  await ensurePool(paths);
  const { templates, snapshots, saved } = poolStatus(paths);
  if (templates + snapshots + saved === 0) return { image };
  throw new ShiftvolError(
    'SV_BUSY',
    `Cannot remove the pool: it holds ${templates} templates, ${snapshots} snapshots and ${saved} saved ones`,
    { remedy: 'destroy the attachments, and remove the templates and what "shiftvol snapshot list" shows' },
  );
}

/** Built without a path, seen only when its root is closed to everybody else. */
async function mountPool(image: string, poolDir: string): Promise<void> {
  mkdirSync(dirname(poolDir), { recursive: true, mode: 0o700 });
  mkdirSync(poolDir, { recursive: true, mode: 0o700 });
  chmodSync(image, 0o600);
  using mount = await mountPrivately(image, { fsType: 'xfs', readOnly: false, directIo: true });
  chmodSync(`/proc/self/fd/${mount.fd}/.`, 0o700);
  // Only now that the lock is ours is nobody else of us about to mount there.
  mustBeFree(poolDir);
  moveMount(mount.fd, poolDir);
}

/** Mounting over something would hide it. */
function mustBeFree(poolDir: string): void {
  if (!statx(poolDir).mountRoot && readdirSync(poolDir).length === 0) return;
  throw new ShiftvolError(
    'SV_POOL_EXISTS',
    `Cannot use ${poolDir} for the pool: it is in use, an empty directory is accepted`,
    {
      remedy: 'see "shiftvol pool status"; choose another pool_dir',
    },
  );
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

const exists = (image: string): ShiftvolError =>
  new ShiftvolError('SV_POOL_EXISTS', `Cannot create a pool: ${image} exists`, {
    remedy: 'grow it: "shiftvol pool grow --size SIZE"',
  });

const noImage = (image: string): ShiftvolError =>
  new ShiftvolError('SV_POOL_NOT_FOUND', `Cannot find a pool image: there is no ${image}`, {
    remedy: 'set one up: "shiftvol pool create --size 20G"',
  });
