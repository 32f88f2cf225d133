import { bindAsync, descriptorArgument, NR } from './libc.ts';

const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const call = bindAsync('fallocate', NR.fallocate, 'int', 'int', 'long', 'long');

/**
 * Reserves room for `[offset, offset + count)` bytes, as contiguous as the file system finds it; the file grows to hold it and reads as
 * zeros there. Borrows `fd`.
 * @throws {KernelError} ENOSPC; EFBIG; EOPNOTSUPP (told as ENOTSUP)
 * @see fallocate(2)
 */
export async function fallocate(fd: number, offset: number, count: number, object: string): Promise<void> {
  await call(object, descriptorArgument(fd), 0, offset, count);
}

/** Gives the room of a range of bytes back; it reads as zeros afterwards, the size stays. Borrows `fd`. @see fallocate(2) */
export async function punchHole(fd: number, offset: number, count: number, object: string): Promise<void> {
  await call(object, descriptorArgument(fd), PUNCH_HOLE | KEEP_SIZE, offset, count);
}
