import { bind, bindAsync, check, descriptorArgument, NR } from './libc.ts';

const FICLONE = 0x40049409;
const ioctl = bind(NR.ioctl, 'int', 'ulong', 'long');
const ioctlAsync = bindAsync('FICLONE', NR.ioctl, 'int', 'ulong', 'long');

/**
 * Makes `to` share all data of `from`; what it held before is replaced. Costs by the source's extents, not by its size. Borrows both:
 * `to` must be open for writing. Dirty pages of the source are in the clone. The source may be immutable.
 * @throws {KernelError} EOPNOTSUPP: this file system cannot (told as ENOTSUP); EXDEV: two file systems; ENOSPC: no room for the extents
 * @see ioctl_ficlone(2), Linux 4.5
 */
export function ficlone(to: number, from: number, object: string): void {
  check('FICLONE', ioctl(descriptorArgument(to), FICLONE, descriptorArgument(from)), object);
}

/** `ficlone` on libuv's pool: an image that has been written to may have very many extents. */
export async function ficloneAsync(to: number, from: number, object: string): Promise<void> {
  await ioctlAsync(object, descriptorArgument(to), FICLONE, descriptorArgument(from));
}
