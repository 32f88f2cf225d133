/** User namespaces for id maps, made inside this process. @see user_namespaces(7) */
import { openSync, writeFileSync } from 'node:fs';
import koffi from 'koffi';
import { KernelError } from './errno.ts';
import { Owned, type UsernsFd } from './fd.ts';
import { bind, check, lastErrno, libc, NR } from './libc.ts';

const CLONE_VM = 0x100;
const CLONE_FILES = 0x400;
const CLONE_VFORK = 0x4000;
const CLONE_NEWUSER = 0x10000000;
const WALL = 0x40000000;
const STACK_BYTES = 65536;

const clone = libc.func('clone', 'int', ['void *', 'void *', 'int', 'void *']);
const wait4 = bind(NR.wait4, 'int', 'void *', 'int', 'void *');
const exit = libc.symbol('_exit');
let stack: bigint | undefined;

/**
 * A user namespace with these maps (`/proc/PID/uid_map` lines: id inside, host id, count), which lives as long as the descriptor.
 *
 * One `clone(_exit, stack, ...)` of libc: the child runs no code of ours, this thread sleeps until it has exited (VFORK), and as a
 * zombie it still has the credentials whose maps are written and whose namespace is opened. No exit signal, so that libuv hears nothing.
 * 75-120 us, with any amount of memory resident; a helper process would take 2.4 ms.
 * @throws {KernelError} ENOSPC: user.max_user_namespaces is reached; EPERM: in a chroot or forbidden by seccomp; EINVAL: the map
 * @see clone(2), user_namespaces(7)
 */
export function createUserNamespace(maps: { readonly uid: string; readonly gid: string }): Owned<UsernsFd> {
  const child = check('clone', cloneExit(), 'CLONE_NEWUSER');
  try {
    writeMap(child, 'uid_map', maps.uid);
    writeMap(child, 'gid_map', maps.gid);
    return new Owned<UsernsFd>(openSync(`/proc/${child}/ns/user`, 'r'));
  } finally {
    check('wait4', wait4(child, null, WALL, null), `pid ${child}`);
  }
}

function cloneExit(): number {
  // CLONE_FILES: without it the descriptor table is copied and closed again, which takes longer the more is open.
  return Number(clone(exit, stackTop(), CLONE_NEWUSER | CLONE_VM | CLONE_VFORK | CLONE_FILES, 0n));
}

/** The stack grows down and is aligned to 16 bytes; it is kept, since the child is gone before clone returns. */
function stackTop(): bigint {
  stack ??= koffi.address(koffi.alloc('char', STACK_BYTES));
  return (stack + BigInt(STACK_BYTES)) & ~0xfn;
}

function writeMap(pid: number, file: 'uid_map' | 'gid_map', text: string): void {
  try {
    writeFileSync(`/proc/${pid}/${file}`, text);
  } catch (error) {
    const errno =
      error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? -error.errno : lastErrno();
    throw new KernelError(
      'write',
      errno,
      file,
      `at most 340 lines and 4095 bytes, no overlap: ${JSON.stringify(text.slice(0, 200))}`,
    );
  }
}
