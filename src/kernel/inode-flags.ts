import { bind, check, descriptorArgument, NR } from './libc.ts';

const FS_IOC_GETFLAGS = 0x80086601;
const FS_IOC_SETFLAGS = 0x40086602;
/** chattr +i: nobody writes, renames, links or unlinks the inode, root neither. */
export const FS_IMMUTABLE_FL = 0x10;

const ioctl = bind(NR.ioctl, 'int', 'ulong', 'void *');

/**
 * The flags that lsattr(1) shows. Borrows `fd`.
 * @throws {KernelError} ENOTTY: this file system has none
 * @see ioctl_iflags(2)
 */
export function getInodeFlags(fd: number, object: string): number {
  // The number says long, the kernel reads and writes an int: room for both.
  const flags = new BigUint64Array(1);
  check('FS_IOC_GETFLAGS', ioctl(descriptorArgument(fd), FS_IOC_GETFLAGS, flags), object);
  return Number((flags[0] ?? 0n) & 0xffff_ffffn);
}

/**
 * Replaces the flags: read them first. Borrows `fd`, which may be open for reading only.
 * @throws {KernelError} ENOTTY, ENOTSUP: this file system has none; EPERM: no CAP_LINUX_IMMUTABLE
 * @see ioctl_iflags(2)
 */
export function setInodeFlags(fd: number, flags: number, object: string): void {
  const value = new BigUint64Array([BigInt(flags)]);
  check('FS_IOC_SETFLAGS', ioctl(descriptorArgument(fd), FS_IOC_SETFLAGS, value), object);
}
