/** Namespaces. setns and unshare act on the calling thread: for threads that are made for it, never libuv's pool. */
import { openSync } from 'node:fs';
import type { Branded } from '../brand.ts';
import { isErrno } from './errno.ts';
import { type Fd, Owned } from './fd.ts';
import { bind, check, descriptorArgument, NR } from './libc.ts';

/** A mount namespace: /proc/PID/ns/mnt. */
export type MntnsFd = Branded<number, 'MntnsFd'>;

export const CLONE = { FS: 0x200, NEWNS: 0x20000 } as const;

const NS_MNT_GET_INFO = 0x8010b70a;
const NS_MNT_GET_NEXT = 0x8010b70b;
const NS_MNT_GET_PREV = 0x8010b70c;
const MNT_NS_INFO_BYTES = 16; // struct mnt_ns_info: u32 size, u32 nr_mounts, u64 mnt_ns_id

const sys = {
  setns: bind(NR.setns, 'int', 'int'),
  unshare: bind(NR.unshare, 'int'),
  fchdir: bind(NR.fchdir, 'int'),
  ioctl: bind(NR.ioctl, 'int', 'ulong', 'void *'),
};

/** The mount namespace of a process. @throws ENOENT: no such process; EACCES */
export function openMountNamespace(pid: number | 'self'): Owned<MntnsFd> {
  return new Owned<MntnsFd>(openSync(`/proc/${pid}/ns/mnt`, 'r'));
}

/** Moves the calling thread into a mount namespace; its root and working directory become the namespace's. @throws {KernelError} EINVAL: the thread shares its root and working directory (unshare CLONE_FS first). @see setns(2) */
export function setnsMount(namespace: MntnsFd): void {
  check('setns', sys.setns(descriptorArgument(namespace), CLONE.NEWNS), `fd ${namespace}`);
}

/** @see unshare(2) */
export function unshare(flags: number): void {
  check('unshare', sys.unshare(flags), `flags 0x${flags.toString(16)}`);
}

/** Of the calling thread, once it has its own by unshare(CLONE_FS). @see fchdir(2) */
export function fchdir(directory: Fd): void {
  check('fchdir', sys.fchdir(descriptorArgument(directory)), `fd ${directory}`);
}

/**
 * The id of every mount namespace there is, also of those that no process is in but a descriptor or bind mount keeps.
 * Empty where the kernel cannot tell. @see ioctl_nsfs(2), NS_MNT_GET_NEXT, Linux 6.12
 */
export function mountNamespaceIds(): readonly bigint[] {
  let current: Owned<MntnsFd> = openMountNamespace('self');
  const info = Buffer.alloc(MNT_NS_INFO_BYTES);
  const step = (request: number): number => {
    info.fill(0);
    info.writeUInt32LE(MNT_NS_INFO_BYTES, 0);
    return sys.ioctl(current.fd, request, info);
  };
  const walk = (request: number): boolean => {
    const fd = step(request);
    if (fd === -1) return false; // ENOENT: no further one; ENOTTY: an older kernel
    current[Symbol.dispose]();
    current = new Owned<MntnsFd>(fd);
    return true;
  };
  try {
    while (walk(NS_MNT_GET_PREV));
    check('NS_MNT_GET_INFO', step(NS_MNT_GET_INFO), 'mount namespace');
    const ids = [info.readBigUInt64LE(8)];
    while (walk(NS_MNT_GET_NEXT)) ids.push(info.readBigUInt64LE(8));
    return ids;
  } catch (error) {
    if (isErrno(error, 'ENOTTY', 'EINVAL')) return [];
    throw error;
  } finally {
    current[Symbol.dispose]();
  }
}
