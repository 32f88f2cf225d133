import koffi from 'koffi';
import { ShiftvolError } from '../errors.ts';

const names = new Map<number, string>();
for (const [name, number] of Object.entries(koffi.os.errno)) if (!names.has(number)) names.set(number, name);

/** `EBUSY` for 16. EWOULDBLOCK is EAGAIN, EOPNOTSUPP is ENOTSUP: the first of each pair in libc's table is told. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** 16 for `EBUSY`. */
export function errnoNumber(name: string): number {
  const number = koffi.os.errno[name];
  if (number === undefined) throw new ShiftvolError('SV_INTERNAL', `Cannot find the number of errno ${name}`);
  return number;
}

/** A system call failed: which, why, on what. */
export class KernelError extends ShiftvolError {
  readonly call: string;
  readonly errno: number;
  /** `EBUSY`. Compare this, never the text. */
  readonly errnoName: string;
  readonly object: string;

  constructor(call: string, errno: number, object: string, detail?: string) {
    const name = errnoName(errno);
    super('SV_KERNEL', `${call} ${object}: ${name}${detail ? `: ${detail}` : ''}`);
    this.name = 'KernelError';
    this.call = call;
    this.errno = errno;
    this.errnoName = name;
    this.object = object;
  }
}

/** True for a failed system call, with one of these errno names where some are given. */
export function isErrno(error: unknown, ...codes: readonly string[]): error is KernelError {
  return error instanceof KernelError && (codes.length === 0 || codes.includes(error.errnoName));
}

/** The same for what Node's own fs throws. */
export function isNodeErrno(error: unknown, ...codes: readonly string[]): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code);
}
