import { constants, realpathSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ImageRef } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import { isNodeErrno } from '../kernel/errno.ts';
import { type Fd, type Owned, open } from '../kernel/fd.ts';
import { isOnlyOpener, O_SUSPICIOUS, tryLock } from '../kernel/file-lock.ts';
import { fstatx } from '../kernel/statx.ts';
import { findHolders, type Held, tellHolders } from './holders.ts';
import { loopsOf } from './loops.ts';

type Deps = { readonly procRoot: string; readonly sysRoot: string };

/**
 * Waits until nothing stands between us and the image any more: no loop device of a file, no mount of a block device, in whatever mount
 * namespace. The loop driver frees a device right after its last unmount; a copy in another namespace keeps it.
 */
export async function released(
  deps: Deps,
  image: ImageRef,
  { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal },
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (let waitMs = 1; ; waitMs = Math.min(waitMs * 2, 100)) {
    const held = image.kind === 'file' ? loopHeld(deps, image.path) : deviceHeld(image.path);
    if (held === undefined) return;
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) throw await stillHeld(deps, image, held);
    await sleep(Math.min(waitMs, leftMs), undefined, signal ? { signal } : {});
  }
}

/** By the lock that our loop devices hold and the count of writers, both O(1); the list of loop devices is read only if they object. */
function loopHeld({ sysRoot }: Deps, path: string): Held | undefined {
  using file = openIfThere(path, constants.O_RDONLY);
  if (file !== undefined && tryLock(file.fd, 'shared', path) && isOnlyOpener(file.fd)) return undefined;
  const [loop] = loopsOf(sysRoot, path);
  return loop && { devno: loop.devno, source: loop.path };
}

function deviceHeld(path: string): Held | undefined {
  try {
    using device = openIfThere(path, constants.O_RDONLY | constants.O_EXCL);
    void device;
    return undefined;
  } catch (error) {
    if (!isNodeErrno(error, 'EBUSY')) throw error;
    using device = open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return { devno: fstatx(device.fd).rdevno, source: realpathSync(path) };
  }
}

function openIfThere(path: string, flags: number): Owned<Fd> | undefined {
  try {
    return open(path, flags | (flags & constants.O_EXCL ? constants.O_NONBLOCK : O_SUSPICIOUS));
  } catch (error) {
    // A symlink (ELOOP) was refused when it was to be opened: no device of ours is behind it.
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENODEV', 'ENOMEDIUM')) return undefined;
    throw error;
  }
}

async function stillHeld(deps: Deps, image: ImageRef, held: Held): Promise<ShiftvolError> {
  const holders = await findHolders(deps, held, undefined);
  return new ShiftvolError(
    'SV_BUSY',
    `Cannot let go of ${JSON.stringify(image.path)}: ${held.source} is still used by ${tellHolders(holders)}`,
    { remedy: 'end what uses it; shiftvol recover goes on then' },
  );
}
