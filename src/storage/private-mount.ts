/**
 * A file system mounted for shiftvol's own work: making, checking, the pool. Instances' mounts never come from here.
 *
 * The mount has no path: it is in no mount table, nobody else can walk into it, and it ends with this process, whatever happens. What
 * works in it reaches it as /proc/self/fd/N; to read that of another process takes root.
 */
import { constants } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FsType } from '../engine/model.ts';
import { ShiftvolError } from '../errors.ts';
import { KernelError } from '../kernel/errno.ts';
import { type Fd, type MountFd, type Owned, open } from '../kernel/fd.ts';
import { tryLock } from '../kernel/file-lock.ts';
import { KernelLog } from '../kernel/kmsg.ts';
import { loopAttach } from '../kernel/loop.ts';
import {
  fsconfigCreateAsync,
  fsconfigFlag,
  fsconfigString,
  fsLog,
  fsmount,
  fsopen,
  MOUNT_ATTR,
} from '../kernel/mount.ts';

/** Nothing in an image may act on the host, whoever looks into it. */
const ATTRIBUTES = MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC | MOUNT_ATTR.NOATIME;

const UNUSED_WAIT_MS = 10_000;

export type PrivateMountOptions = { readonly fsType: FsType; readonly readOnly: boolean; readonly directIo?: boolean };

/**
 * Mounts an image file through a loop device that goes with the mount. The caller owns the result.
 * @throws SV_BUSY: another process or loop device has this image; SV_MOUNT with the kernel's reason
 */
export async function mountPrivately(image: string, options: PrivateMountOptions): Promise<Owned<MountFd>> {
  using file = open(image, options.readOnly ? constants.O_RDONLY : constants.O_RDWR);
  // The loop device keeps this open file description, and with it the lock: two superblocks on one image would destroy it.
  if (!tryLock(file.fd, 'exclusive', image))
    throw new ShiftvolError('SV_BUSY', `Cannot mount ${image}: another process or loop device uses it`);
  return await mountFile(file.fd, image, options);
}

async function mountFile(file: Fd, image: string, options: PrivateMountOptions): Promise<Owned<MountFd>> {
  const { readOnly, directIo = false, fsType } = options;
  using loop = await loopAttach(file, { readOnly, directIo, name: image });
  using log = new KernelLog();
  using context = fsopen(fsType);
  try {
    fsconfigString(context.fd, 'source', loop.path);
    // Never what the image itself asks for: it could choose to stop the host at the first bad block.
    if (fsType === 'ext4') fsconfigString(context.fd, 'errors', 'remount-ro');
    if (fsType === 'xfs') fsconfigFlag(context.fd, 'nouuid');
    if (readOnly) fsconfigFlag(context.fd, 'ro');
    await fsconfigCreateAsync(context.fd, image);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    const words = [...fsLog(context.fd), ...log.linesAbout(loop.path.slice('/dev/'.length))];
    throw new ShiftvolError(
      'SV_MOUNT',
      `Cannot mount ${image} as ${fsType}: ${words.at(0) ?? `the kernel says ${error.errnoName}`}`,
      {
        cause: error,
      },
    );
  }
  return fsmount(context.fd, ATTRIBUTES | (readOnly ? MOUNT_ATTR.RDONLY : 0));
}

/**
 * Waits until nobody has the image any more: the kernel frees a loop device when the last superblock on it has gone, and with it the
 * lock that came with its file.
 * @throws SV_BUSY after 10 s
 */
export async function waitUnused(image: string, signal?: AbortSignal): Promise<void> {
  const deadline = performance.now() + UNUSED_WAIT_MS;
  while (!isUnused(image)) {
    if (performance.now() > deadline)
      throw new ShiftvolError('SV_BUSY', `Cannot go on with ${image}: something still has it mounted`);
    await sleep(2, undefined, { signal });
  }
}

function isUnused(image: string): boolean {
  using file = open(image, constants.O_RDONLY);
  return tryLock(file.fd, 'exclusive', image);
}
