/** Volumes that become larger while they are in use: the image with its loop device, and the file system in it. */
import { constants, fstatSync, ftruncateSync, readFileSync, readSync, statfsSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { FsType } from '../engine/model.ts';
import type { BlockDevice, Grown, ImageRef } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import { hasCapability } from '../kernel/capability.ts';
import { isErrno, isNodeErrno, type KernelError } from '../kernel/errno.ts';
import { type Fd, type Owned, open } from '../kernel/fd.ts';
import { O_SUSPICIOUS } from '../kernel/file-lock.ts';
import type { KernelLogs } from '../kernel/kmsg.ts';
import { loopStatus } from '../kernel/loop.ts';
import { loopSetCapacity } from '../kernel/loop-capacity.ts';
import { btrfsResizeToDevice, ext4Resize, xfsGeometry, xfsGrow } from '../kernel/resize.ts';
import { fstatx, statx } from '../kernel/statx.ts';
import { loopsOf } from './loops.ts';
import { readMountinfo, topmostAt } from './mountinfo.ts';
import { EXT4_HEAD_BYTES, ext4Growth } from './super-ext4.ts';

type Deps = { readonly procRoot: string; readonly sysRoot: string; readonly logs: KernelLogs };
const SECTOR_BYTES = 512;

/**
 * Makes the file system that is mounted at `path` as large as its device, while it is in use. As large already is success, and costs a
 * few microseconds.
 * @returns bytes of the device, and whether the file system became larger
 * @throws SV_GROW with the kernel's own words; SV_HOST: a capability is missing
 */
export async function grow(deps: Deps, path: string, fsType: FsType): Promise<Grown> {
  const device = deviceOf(deps, path);
  const sizeBytes = deviceBytes(deps.sysRoot, device.devno);
  using directory = open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  using loan = deps.logs.borrow();
  const before = statfsSync(path).blocks;
  try {
    await GROW[fsType](directory.fd, { sizeBytes, device: device.path }, path);
  } catch (error) {
    if (!isErrno(error)) throw error;
    if (error.errnoName === 'EPERM' && !canGrowMounted(fsType, deps.procRoot))
      throw new ShiftvolError(
        'SV_HOST',
        `Cannot grow the ext4 at ${JSON.stringify(path)}: CAP_SYS_RESOURCE is missing`,
        {
          remedy: 'give it to shiftvol, or stop the instance, or use templates with xfs or btrfs',
          cause: error,
        },
      );
    const words = loan.log.linesAbout(basename(device.path)).filter(line => !NOISE.test(line));
    throw refused(error, { path, fsType, sizeBytes }, words);
  }
  return { sizeBytes, changed: statfsSync(path).blocks !== before };
}
const NOISE = /detected capacity change/;

const GROW = {
  ext4: async (fd, { sizeBytes, device }, path) => {
    using opened = open(device, constants.O_RDONLY);
    const head = Buffer.alloc(EXT4_HEAD_BYTES);
    readSync(opened.fd, head, 0, head.length, 0);
    const found = ext4Growth(head);
    // Asked even for what it has, the kernel wants CAP_SYS_RESOURCE; and a rest that is too small for a block group stays a rest.
    if (found !== undefined && sizeBytes - found.sizeBytes < found.leastGrowthBytes) return;
    await ext4Resize(fd, BigInt(Math.floor(sizeBytes / statfsSync(path).bsize)), path);
  },
  xfs: async (fd, { sizeBytes }, path) => {
    const { blockBytes, blocks, imaxpct } = xfsGeometry(fd, path);
    const wanted = BigInt(Math.floor(sizeBytes / blockBytes));
    if (wanted > blocks) await xfsGrow(fd, { blocks: wanted, imaxpct }, path);
  },
  btrfs: async (fd, _size, path) => await btrfsResizeToDevice(fd, path),
} as const satisfies Record<FsType, (fd: Fd, to: { sizeBytes: number; device: string }, path: string) => Promise<void>>;

/** btrfs shows no number of its device, but its mount does name it. */
function deviceOf({ procRoot, sysRoot }: Deps, path: string): { readonly path: string; readonly devno: string } {
  const { devno } = statx(path);
  if (!devno.startsWith('0:')) return { path: nameOf(sysRoot, devno), devno };
  const source = topmostAt(readMountinfo(procRoot), path)?.source;
  if (source === undefined)
    throw new ShiftvolError('SV_MOUNT', `Cannot grow what is at ${JSON.stringify(path)}: nothing is mounted there`);
  return { path: source, devno: statx(source).rdevno };
}

function nameOf(sysRoot: string, devno: string): string {
  const [, name] = /^DEVNAME=(.*)$/m.exec(readFileSync(join(sysRoot, 'dev/block', devno, 'uevent'), 'utf8')) ?? [];
  return `/dev/${name ?? `block/${devno}`}`;
}

function deviceBytes(sysRoot: string, devno: string): number {
  return Number(readFileSync(join(sysRoot, 'dev/block', devno, 'size'), 'utf8')) * SECTOR_BYTES;
}

function refused(
  error: KernelError,
  { path, fsType, sizeBytes }: { readonly path: string; readonly fsType: FsType; readonly sizeBytes: number },
  words: readonly string[],
): ShiftvolError {
  const reason =
    words.length === 0
      ? `the kernel says ${error.errnoName}`
      : `the kernel says ${JSON.stringify(words.slice(0, 3).join('; '))}`;
  const remedy = REMEDIES[fsType];
  return new ShiftvolError(
    'SV_GROW',
    `Cannot grow the ${fsType} at ${JSON.stringify(path)} to ${sizeBytes} bytes: ${reason}`,
    { field: 'sizeBytes', ...(remedy !== undefined && { remedy }), cause: error },
  );
}

/** A container's root without CAP_SYS_RESOURCE may not grow a mounted ext4. */
export function canGrowMounted(fsType: FsType, procRoot = '/proc'): boolean {
  return fsType !== 'ext4' || hasCapability(procRoot, 'SYS_RESOURCE');
}

const REMEDIES: Readonly<Partial<Record<FsType, string>>> = {
  ext4: 'an ext4 that was made with less reserved for growth (resize_inode, meta_bg, 64bit) has a limit: choose a smaller size, or make the template with the size that is needed',
  btrfs: 'wait for a balance or another resize in it to end, then ask again',
};

/**
 * Makes an image file larger, and the loop device that stands for it. As large already is success, and it never becomes smaller. A block
 * device is as large as it is.
 * @returns bytes of the image now
 * @throws SV_VOLUME_NOT_FOUND; SV_NO_SPACE: its file system does not take so large a file
 */
export function enlarge(
  { sysRoot }: Pick<Deps, 'sysRoot'>,
  image: ImageRef,
  sizeBytes: number,
  device?: Pick<BlockDevice, 'path'>,
): number {
  if (image.kind === 'device') return sizeOf({ sysRoot }, image);
  using file = openImage(image.path, constants.O_RDWR | O_SUSPICIOUS);
  const before = fstatSync(file.fd, { bigint: true });
  if (before.size < BigInt(sizeBytes)) lengthen(file.fd, image.path, sizeBytes);
  for (const { path } of device ? [device] : loopsOf(sysRoot, image.path)) {
    using loop = open(path, constants.O_RDONLY);
    // By the kernel's word, not by a name that was read a moment ago.
    const status = loopStatus(loop.fd);
    if (status.inode === before.ino && status.device === before.dev) loopSetCapacity(loop.fd, path);
  }
  return Math.max(Number(before.size), sizeBytes);
}

/** How large the image or device is now. @throws SV_VOLUME_NOT_FOUND */
export function sizeOf({ sysRoot }: Pick<Deps, 'sysRoot'>, image: ImageRef): number {
  using opened = image.kind === 'device' ? openImage(image.path, O_DEVICE) : openImage(image.path, O_FILE);
  const { rdevno, sizeBytes } = fstatx(opened.fd);
  return image.kind === 'device' ? deviceBytes(sysRoot, rdevno) : Number(sizeBytes);
}
/** Names of devices, as below /dev/disk, are links. */
const O_DEVICE = constants.O_RDONLY | constants.O_NONBLOCK;
const O_FILE = constants.O_RDONLY | O_SUSPICIOUS;

function openImage(path: string, flags: number): Owned<Fd> {
  try {
    return open(path, flags);
  } catch (error) {
    if (!isNodeErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENODEV', 'ENOMEDIUM')) throw error;
    throw new ShiftvolError('SV_VOLUME_NOT_FOUND', `Cannot open ${JSON.stringify(path)}: there is no such image`, {
      cause: error,
    });
  }
}

function lengthen(file: Fd, path: string, sizeBytes: number): void {
  try {
    ftruncateSync(file, sizeBytes);
  } catch (error) {
    if (!isNodeErrno(error, 'ENOSPC', 'EDQUOT', 'EFBIG', 'EINVAL')) throw error;
    throw new ShiftvolError(
      'SV_NO_SPACE',
      `Cannot make ${JSON.stringify(path)} ${sizeBytes} bytes large: its file system does not take a file of this size`,
      { field: 'sizeBytes', cause: error },
    );
  }
}
