/** openat2(2): opening a path that somebody else may be changing, without leaving the tree. */
import { type Fd, Owned } from './fd.ts';
import { bind, check, descriptorArgument, NR, pathArgument } from './libc.ts';

/** What the walk may not do. @see openat2(2) */
export const RESOLVE = {
  /** Cross into another mount. */
  NO_XDEV: 1,
  NO_MAGICLINKS: 2,
  NO_SYMLINKS: 4,
  BENEATH: 8,
  /** `/`, `..` and absolute symlinks mean the directory that was given. */
  IN_ROOT: 0x10,
} as const;

const OPEN_HOW_BYTES = 24; // struct open_how: u64 flags, mode, resolve
const how = new BigUint64Array(3);
const sys = bind(NR.openat2, 'int', 'str', 'void *', 'ulong');

/**
 * Close on exec is the caller's flag to give (O.CLOEXEC).
 * @throws {KernelError} ENOENT, ENOTDIR; ELOOP: a symlink; EXDEV: another mount; EAGAIN: renamed meanwhile
 * @see openat2(2), Linux 5.6
 */
export function openat2(directory: Fd, path: string, flags: number, resolve: number): Owned<Fd> {
  how.set([BigInt(flags), 0n, BigInt(resolve)]);
  return new Owned<Fd>(
    check('openat2', sys(descriptorArgument(directory), pathArgument(path), how, OPEN_HOW_BYTES), path),
  );
}
