import { errnoNumber, KernelError } from './errno.ts';
import { bind, check, descriptorArgument, lastErrno, NR } from './libc.ts';

const FIFREEZE = 0xc0045877;
const FITHAW = 0xc0045878;

const sys = { ioctl: bind(NR.ioctl, 'int', 'ulong', 'long'), syncfs: bind(NR.syncfs, 'int') };

/**
 * Stops all writing to the file system that `fd` is on, by whatever mount, and writes out what is dirty: its device then holds all that
 * anybody was told is stored, and can be mounted as it is. Sleeps on the disk, and cannot be interrupted. It lasts until somebody thaws
 * it: neither closing `fd` nor the death of the process does. Borrows `fd`, which may be of a directory and open for reading.
 * @throws {KernelError} EBUSY: frozen already; EOPNOTSUPP (told as ENOTSUP): this file system cannot; EPERM; EIO
 * @see ioctl_fsfreeze in fsfreeze(8), Linux 2.6.29
 */
export function freezeFileSystem(fd: number, object: string): void {
  check('FIFREEZE', sys.ioctl(descriptorArgument(fd), FIFREEZE, 0), object);
}

/** Lets writing go on. False where it was not frozen. @throws {KernelError} EPERM; EIO. @see fsfreeze(8), Linux 2.6.29 */
export function thawFileSystem(fd: number, object: string): boolean {
  if (sys.ioctl(descriptorArgument(fd), FITHAW, 0) !== -1) return true;
  const errno = lastErrno();
  if (errno === errnoNumber('EINVAL')) return false;
  throw new KernelError('FITHAW', errno, object);
}

/** Writes out what is dirty, and waits for it. Sleeps on the disk. Borrows `fd`. @throws {KernelError} EIO, ENOSPC. @see syncfs(2), Linux 2.6.39 */
export function syncFileSystem(fd: number, object: string): void {
  check('syncfs', sys.syncfs(descriptorArgument(fd)), object);
}
