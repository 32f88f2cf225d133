/**
 * The way into the kernel: libc's syscall(2) through koffi, with one fixed prototype an argument shape, so that it works on any
 * glibc and on musl alike. Thin typed functions in the files beside this one use `bind` and `check`; nobody else does.
 */
import koffi from 'koffi';
import { KernelError } from './errno.ts';

/** The symbols that are in the process already: glibc or musl, no file name needed. */
export const libc = koffi.load(null as unknown as string);

const arm64 = process.arch === 'arm64';

/** System call numbers. From 424 on they are the same on every architecture. */
export const NR = {
  ioctl: arm64 ? 29 : 16,
  umount2: arm64 ? 39 : 166,
  mkdirat: arm64 ? 34 : 258,
  unshare: arm64 ? 97 : 272,
  setns: arm64 ? 268 : 308,
  wait4: arm64 ? 260 : 61,
  statx: arm64 ? 291 : 332,
  read: arm64 ? 63 : 0,
  close: arm64 ? 57 : 3,
  fchdir: arm64 ? 50 : 81,
  chdir: arm64 ? 49 : 80,
  mount: arm64 ? 40 : 165,
  pivotRoot: arm64 ? 41 : 155,
  fcntl: arm64 ? 25 : 72,
  flock: arm64 ? 32 : 73,
  socket: arm64 ? 198 : 41,
  sendto: arm64 ? 206 : 44,
  lseek: arm64 ? 62 : 8,
  madvise: arm64 ? 233 : 28,
  fallocate: arm64 ? 47 : 285,
  syncfs: arm64 ? 267 : 306,
  setfsuid: arm64 ? 151 : 122,
  setfsgid: arm64 ? 152 : 123,
  openTree: 428,
  moveMount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  openat2: 437,
  mountSetattr: 442,
  statmount: 457,
  listmount: 458,
} as const;

/** Open flags that Node's `fs.constants` lacks, or that differ between architectures. */
export const O = {
  PATH: 0x200000,
  CLOEXEC: 0x80000,
  DIRECTORY: arm64 ? 0x4000 : 0x10000,
  NOFOLLOW: arm64 ? 0x8000 : 0x20000,
  DIRECT: arm64 ? 0x10000 : 0x4000,
} as const;

type Shape = 'int' | 'uint' | 'long' | 'ulong' | 'str' | 'void *';
type Argument = number | bigint | string | null | Uint8Array | BigUint64Array;

/** The system call `number` for arguments of these C types, called on this thread. Returns -1 on failure: hand it to `check` at once. */
export function bind(number: number, ...shape: readonly Shape[]): (...args: readonly Argument[]) => number {
  const call = libc.func('syscall', 'long', ['long', ...shape]);
  return (...args) => call(number, ...args) as number;
}

/**
 * The same on libuv's pool, for calls that sleep: never setns or unshare. The errno is read inside koffi's callback, where it is
 * still that of the pool's thread; after an `await` it would be lost.
 */
export function bindAsync(
  name: string,
  number: number,
  ...shape: readonly Shape[]
): (object: string, ...args: readonly Argument[]) => Promise<number> {
  const call = libc.func('syscall', 'long', ['long', ...shape]);
  return (object, ...args) =>
    new Promise((resolve, reject) => {
      call.async(number, ...args, (error: unknown, result: number) => {
        if (error) reject(error);
        else if (result === -1) reject(new KernelError(name, koffi.errno(), object));
        else resolve(result);
      });
    });
}

/** The result, or a KernelError for -1. Must be the very next thing after the call: koffi.errno() is the thread's live errno. */
export function check(name: string, result: number, object: string): number {
  if (result === -1) throw new KernelError(name, koffi.errno(), object);
  return result;
}

/** The errno of the call that returned -1 just now on this thread. */
export function lastErrno(): number {
  return koffi.errno();
}

/** koffi cuts strings at NUL and numbers at their width without a word, so both are looked at before they go down. */
export function pathArgument(path: string): string {
  if (path.includes('\0')) throw new KernelError('open', koffi.os.errno['EINVAL'] ?? 22, JSON.stringify(path));
  return path;
}
export function descriptorArgument(fd: number): number {
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff)
    throw new KernelError('close', koffi.os.errno['EBADF'] ?? 9, `fd ${fd}`);
  return fd;
}
