/** Loop devices: a block device that stands for a regular file. @see loop(4) */
import { constants } from 'node:fs';
import { isErrno, isNodeErrno, KernelError } from './errno.ts';
import { type Fd, type Owned, open } from './fd.ts';
import { bind, bindAsync, check, descriptorArgument, NR } from './libc.ts';
import { fstatx } from './statx.ts';

const LOOP_GET_STATUS64 = 0x4c05;
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_CTL_GET_FREE = 0x4c82;
const LO_FLAGS_READ_ONLY = 1;
const LO_FLAGS_AUTOCLEAR = 4;
const LO_FLAGS_DIRECT_IO = 16;

/** struct loop_config: u32 fd, u32 block_size, struct loop_info64 info, u64 reserved[8]. */
const CONFIG_BYTES = 304;
const INFO_AT = 8;
/** struct loop_info64: u64 lo_device @0, u64 lo_inode @8, u32 lo_flags @52, char lo_file_name[64] @56. */
const INFO_BYTES = 232;
const INFO_FLAGS_AT = 52;
const INFO_NAME_AT = 56;
const NAME_BYTES = 64;

/**
 * Always said: with 0 the driver takes the block size of the file system below for direct I/O, 4096, and an image made with
 * 512-byte sectors no longer mounts (tried: xfs, ENOSYS).
 */
const BLOCK_BYTES = 512;
/** Lost races are repeated; each needs another allocator to win in between, so this many mean that something else is wrong. */
const ATTEMPTS = 1000;

export type LoopOptions = {
  readonly readOnly: boolean;
  /** No second copy in the page cache. Falls back to buffered I/O where the file system below cannot. */
  readonly directIo: boolean;
  /** Told by losetup(8); cut to 63 bytes. The kernel knows the full path itself. */
  readonly name: string;
};

/** What a loop device stands for. */
export type LoopStatus = {
  /** st_dev and st_ino of the file. */
  readonly device: bigint;
  readonly inode: bigint;
  readonly readOnly: boolean;
  readonly autoclear: boolean;
  readonly directIo: boolean;
};

const sys = {
  ioctlLong: bind(NR.ioctl, 'int', 'ulong', 'long'),
  ioctlBuffer: bind(NR.ioctl, 'int', 'ulong', 'void *'),
  configureAsync: bindAsync('LOOP_CONFIGURE', NR.ioctl, 'int', 'ulong', 'void *'),
};

/**
 * An open loop device. With autoclear the kernel frees it when the last user, a descriptor or a mount, has gone: whoever mounts it
 * keeps this open until the superblock exists. Disposing closes the descriptor, nothing more.
 */
export class LoopDevice implements Disposable {
  /** `/dev/loop3` */
  readonly path: string;
  /** `7:3` */
  readonly devno: string;
  readonly #fd: Owned<Fd>;

  constructor(path: string, fd: Owned<Fd>) {
    this.path = path;
    this.#fd = fd;
    this.devno = fstatx(fd.fd).rdevno;
  }

  get fd(): Fd {
    return this.#fd.fd;
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

/** A number that was free a moment ago; it is not reserved. @throws {KernelError} ENOSPC. @see loop(4), Linux 3.1 */
export function loopGetFree(control: Fd): number {
  return check('LOOP_CTL_GET_FREE', sys.ioctlLong(descriptorArgument(control), LOOP_CTL_GET_FREE, 0), 'loop-control');
}

/**
 * Binds a file to an open loop device in one step, autoclear. The driver keeps the file's own open file description, so that an
 * flock(2) on it lives as long as the device does. Waits 0.3 to 0.7 ms for the block layer, therefore on libuv's pool.
 * @throws {KernelError} EBUSY: bound by somebody else meanwhile; EBADF; EINVAL: not a regular file or block device
 * @see loop(4), Linux 5.8
 */
export async function loopConfigure(device: Fd, file: Fd, options: LoopOptions): Promise<void> {
  const config = Buffer.alloc(CONFIG_BYTES);
  config.writeUInt32LE(descriptorArgument(file), 0);
  config.writeUInt32LE(BLOCK_BYTES, 4);
  config.writeUInt32LE(flagsOf(options), INFO_AT + INFO_FLAGS_AT);
  config.write(options.name, INFO_AT + INFO_NAME_AT, NAME_BYTES - 1);
  await sys.configureAsync(options.name, descriptorArgument(device), LOOP_CONFIGURE, config);
}

/** @throws {KernelError} ENXIO: nothing is bound. @see loop(4) */
export function loopStatus(device: Fd): LoopStatus {
  const info = Buffer.alloc(INFO_BYTES);
  check('LOOP_GET_STATUS64', sys.ioctlBuffer(descriptorArgument(device), LOOP_GET_STATUS64, info), `fd ${device}`);
  const flags = info.readUInt32LE(INFO_FLAGS_AT);
  return {
    device: info.readBigUInt64LE(0),
    inode: info.readBigUInt64LE(8),
    readOnly: (flags & LO_FLAGS_READ_ONLY) !== 0,
    autoclear: (flags & LO_FLAGS_AUTOCLEAR) !== 0,
    directIo: (flags & LO_FLAGS_DIRECT_IO) !== 0,
  };
}

/**
 * Finds a free loop device and binds `file` to it. Borrows `file`, which may be closed afterwards.
 *
 * The descriptor that comes back is read-only: kernels built without CONFIG_BLK_DEV_WRITE_MOUNTED (6.8) refuse to mount what
 * anybody has open for writing. Writing needs none, the mount opens the device itself.
 * @throws {KernelError} as LOOP_CONFIGURE, when it is not the lost race; ENOENT: no /dev/loop-control
 */
export async function loopAttach(file: Fd, options: LoopOptions): Promise<LoopDevice> {
  // One at a time in this process: GET_FREE would give the same number to all that ask meanwhile.
  const before = allocating;
  const { promise: done, resolve: release } = Promise.withResolvers<void>();
  allocating = done;
  await before;
  try {
    return await attachToFree(file, options);
  } finally {
    release();
  }
}
let allocating: Promise<void> = Promise.resolve();

async function attachToFree(file: Fd, options: LoopOptions): Promise<LoopDevice> {
  using control = open('/dev/loop-control', constants.O_RDWR);
  for (let attempt = 1; ; attempt++) {
    const path = `/dev/loop${loopGetFree(control.fd)}`;
    try {
      using writable = open(path, options.readOnly ? constants.O_RDONLY : constants.O_RDWR);
      await loopConfigure(writable.fd, file, options);
      return new LoopDevice(path, open(path, constants.O_RDONLY));
    } catch (error) {
      if (!lostRace(error) || attempt === ATTEMPTS) throw error;
    }
  }
}

/** GET_FREE reserves nothing: another allocator bound or removed the device before us. */
function lostRace(error: unknown): boolean {
  return (
    (error instanceof KernelError && isErrno(error, 'EBUSY')) ||
    isNodeErrno(error, 'ENOENT', 'ENXIO', 'EBUSY', 'ENODEV')
  );
}

function flagsOf({ readOnly, directIo }: LoopOptions): number {
  return LO_FLAGS_AUTOCLEAR | (readOnly ? LO_FLAGS_READ_ONLY : 0) | (directIo ? LO_FLAGS_DIRECT_IO : 0);
}
