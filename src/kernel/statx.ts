/** statx(2): what a path or descriptor is, and which mount it lies on. One call, nothing that grows with the number of mounts. */
import { errnoNumber, KernelError } from './errno.ts';
import type { Fd, MountFd } from './fd.ts';
import { bind, check, lastErrno, NR, pathArgument } from './libc.ts';

export const AT_FDCWD = -100;
export const AT_EMPTY_PATH = 0x1000;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_NO_AUTOMOUNT = 0x800;

/** TYPE, MODE, UID, GID, INO, SIZE and MNT_ID of the basic set; older kernels ignore bits that they do not know. */
const STATX_BASIC_STATS = 0x7ff;
const STATX_MNT_ID = 0x1000;
const STATX_MNT_ID_UNIQUE = 0x4000;
const MASK = STATX_BASIC_STATS | STATX_MNT_ID | STATX_MNT_ID_UNIQUE;
const STATX_ATTR_MOUNT_ROOT = 0x2000n;

export type FileStatus = {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly ino: bigint;
  readonly sizeBytes: bigint;
  /** Device of the file system, `7:3`. btrfs gives an anonymous number of the subvolume, not that of its block device. */
  readonly devno: string;
  /** What a device node stands for, `7:3`; `0:0` for anything else. */
  readonly rdevno: string;
  /** True where a mount begins exactly here (Linux 5.8). */
  readonly mountRoot: boolean;
  /** Of the topmost mount there: never used again where `mountIdUnique`, else the small number of mountinfo. */
  readonly mountId: bigint;
  /** Linux 6.8. */
  readonly mountIdUnique: boolean;
};

const sys = bind(NR.statx, 'int', 'str', 'int', 'uint', 'void *');
const buffer = Buffer.alloc(256);

/** Does not follow a symlink at the end of `path` and triggers no automount. @throws {KernelError} ENOENT, ENOTDIR, EACCES, ELOOP. @see statx(2), Linux 4.11 */
export function statx(path: string): FileStatus {
  return call(AT_FDCWD, pathArgument(path), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, path);
}

/** The same, undefined where there is nothing: an error object for what is expected would cost more than the call. */
export function statxIfThere(path: string): FileStatus | undefined {
  const flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
  if (sys(AT_FDCWD, pathArgument(path), flags, MASK, buffer) === 0) return read();
  const errno = lastErrno();
  if (errno === errnoNumber('ENOENT') || errno === errnoNumber('ENOTDIR')) return undefined;
  throw new KernelError('statx', errno, path);
}

/** The same of what a descriptor stands for, also a detached mount. */
export function fstatx(fd: Fd | MountFd): FileStatus {
  return call(fd, '', AT_EMPTY_PATH, `fd ${fd}`);
}

function call(dirfd: number, path: string, flags: number, object: string): FileStatus {
  check('statx', sys(dirfd, path, flags, MASK, buffer), object);
  return read();
}

function read(): FileStatus {
  return {
    uid: buffer.readUInt32LE(20),
    gid: buffer.readUInt32LE(24),
    mode: buffer.readUInt16LE(28),
    ino: buffer.readBigUInt64LE(32),
    sizeBytes: buffer.readBigUInt64LE(40),
    rdevno: `${buffer.readUInt32LE(128)}:${buffer.readUInt32LE(132)}`,
    devno: `${buffer.readUInt32LE(136)}:${buffer.readUInt32LE(140)}`,
    mountRoot: (buffer.readBigUInt64LE(8) & STATX_ATTR_MOUNT_ROOT) !== 0n,
    mountId: buffer.readBigUInt64LE(144),
    mountIdUnique: (buffer.readUInt32LE(0) & STATX_MNT_ID_UNIQUE) !== 0,
  };
}
