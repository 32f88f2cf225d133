/** Mount namespaces: opened and counted here; entered by the one thread that is made for it (mount/inside-worker.ts). */
import { openSync } from 'node:fs';
import type { Branded } from '../brand.ts';
import { isErrno } from './errno.ts';
import { Owned } from './fd.ts';
import { bind, check, NR } from './libc.ts';

/** A mount namespace: /proc/PID/ns/mnt. */
export type MntnsFd = Branded<number, 'MntnsFd'>;

export const CLONE = { FS: 0x200, NEWNS: 0x20000 } as const;

const NS_MNT_GET_INFO = 0x8010b70a;
const NS_MNT_GET_NEXT = 0x8010b70b;
const NS_MNT_GET_PREV = 0x8010b70c;
const MNT_NS_INFO_BYTES = 16; // struct mnt_ns_info: u32 size, u32 nr_mounts, u64 mnt_ns_id

const sys = {
  ioctl: bind(NR.ioctl, 'int', 'ulong', 'void *'),
};

/** The mount namespace of a process. @throws ENOENT: no such process; EACCES */
export function openMountNamespace(pid: number | 'self'): Owned<MntnsFd> {
  return new Owned<MntnsFd>(openSync(`/proc/${pid}/ns/mnt`, 'r'));
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
