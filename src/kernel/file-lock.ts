/** Questions to the kernel about who else has a file open, O(1). */
import { constants } from 'node:fs';
import { errnoNumber, KernelError } from './errno.ts';
import type { Fd } from './fd.ts';
import { bind, check, descriptorArgument, lastErrno, NR } from './libc.ts';

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const F_SETSIG = 10;
const F_SETLEASE = 1024;
const F_WRLCK = 1;
const F_UNLCK = 2;
const SIGURG = 23;

const sys = { flock: bind(NR.flock, 'int', 'int'), fcntl: bind(NR.fcntl, 'int', 'int', 'long') };

/**
 * Locks the open file description, without waiting; false where somebody else has it locked. Held until the last descriptor of it is
 * closed: a loop device keeps its file's, so that the lock outlives our process and ends with the device (tried, also with direct I/O).
 * On NFS such a lock is one of the server's, and an exclusive one takes a file that is open for writing: of another a shared one is taken.
 * @see flock(2)
 */
export function tryLock(file: Fd, kind: 'shared' | 'exclusive', object: string): boolean {
  if (sys.flock(descriptorArgument(file), (kind === 'shared' ? LOCK_SH : LOCK_EX) | LOCK_NB) === 0) return true;
  const errno = lastErrno();
  if (errno === errnoNumber('EWOULDBLOCK')) return false;
  if (errno === errnoNumber('EBADF') && kind === 'exclusive') return tryLock(file, 'shared', object);
  throw new KernelError('flock', errno, object);
}

/**
 * True where no other open file description of this file exists that could write it (or read it, if ours can write): nor another
 * program, nor a loop device. The kernel grants a write lease only then; it is given back at once. False also where the file system has
 * no leases. @see fcntl(2), F_SETLEASE
 */
export function isOnlyOpener(file: Fd): boolean {
  // Whoever opens the file in these two microseconds breaks the lease, which sends a signal: SIGIO would end the process, SIGURG is ignored.
  check('fcntl', sys.fcntl(descriptorArgument(file), F_SETSIG, SIGURG), 'F_SETSIG');
  if (sys.fcntl(file, F_SETLEASE, F_WRLCK) === -1) return false;
  check('fcntl', sys.fcntl(file, F_SETLEASE, F_UNLCK), 'F_SETLEASE');
  return true;
}

/** Opening flags for a path that is not trusted to be what it should be: no symlink at its end, no waiting for a FIFO's other side. */
export const O_SUSPICIOUS = constants.O_NOFOLLOW | constants.O_NONBLOCK;
