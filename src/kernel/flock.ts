import { isErrno } from './errno.ts';
import { bind, check, descriptorArgument, NR } from './libc.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;
const call = bind(NR.flock, 'int', 'int');

/**
 * Locks the file or directory for this open file description alone, or returns false where another has it. Never waits. The kernel lets
 * go when the last descriptor of the description is closed: also when the process dies, and only when a loop device made of it is freed.
 * @see flock(2)
 */
export function tryFlock(fd: number, object: string): boolean {
  try {
    check('flock', call(descriptorArgument(fd), LOCK_EX | LOCK_NB), object);
    return true;
  } catch (error) {
    if (isErrno(error, 'EAGAIN', 'EWOULDBLOCK')) return false;
    throw error;
  }
}
