/** What the kernel can do, found out by doing it: versions lie (back-ports, seccomp, configuration). Nothing is left behind. */
import { constants, ftruncateSync, mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '../kernel/errno.ts';
import { open } from '../kernel/fd.ts';
import { KernelLog } from '../kernel/kmsg.ts';
import { O } from '../kernel/libc.ts';
import { loopAttach, loopStatus } from '../kernel/loop.ts';
import {
  fsconfigCreate,
  fsconfigString,
  fsmount,
  fsopen,
  MOUNT_ATTR,
  mountSetIdmap,
  moveMount,
  umount2,
} from '../kernel/mount.ts';
import { mountNamespaceIds } from '../kernel/namespaces.ts';
import { openat2, RESOLVE } from '../kernel/openat2.ts';
import { statmount, whereSupported } from '../kernel/statmount.ts';
import { fstatx } from '../kernel/statx.ts';
import { createUserNamespace } from '../kernel/userns.ts';
import { attempt, bad, type Check, good, isRoot, notTried, warn } from './check.ts';

/**
 * For tries: ids 0-65535 shown as 200000-265535, in no instance's use. A namespace without any map would not do: newer kernels refuse to
 * map a mount by it.
 */
export const TRIAL_MAP = '0 200000 65536\n';
export const trialNamespace = () => createUserNamespace({ uid: TRIAL_MAP, gid: TRIAL_MAP });

const OLD = 'use a newer kernel (5.15 at least, 6.15 for everything), or allow the call in the seccomp profile';

/** `scratch`: a directory for tries, of our own. */
export async function kernelChecks(scratch: string): Promise<Check[]> {
  return [
    await attempt('kernel.user-namespace', userNamespace, {
      ok: false,
      remedy:
        'allow user namespaces: CONFIG_USER_NS, user.max_user_namespaces, no chroot, no seccomp rule against clone',
    }),
    await attempt('kernel.mount-calls', () => mountCalls(scratch), { ok: false, remedy: OLD }),
    await attempt('kernel.openat2', confinedOpen, { ok: false, remedy: OLD }),
    await attempt('kernel.loop', () => loopDevice(scratch), {
      ok: false,
      remedy: 'modprobe loop; in a container give it /dev/loop-control and the loop devices',
    }),
    await attempt('kernel.statmount', () => readBack(scratch), { ok: 'warn' }),
    await attempt('kernel.mount-namespaces', listNamespaces, { ok: 'warn' }),
    kernelLog(),
  ];
}

function userNamespace(): Check {
  using _ = trialNamespace();
  return good('kernel.user-namespace', 'one with a map was made');
}

/** A mount with a map at `point`, while `look` looks; all in one go, so that nothing can come between. */
function withMappedTmpfs<T>(point: string, look: (mountId: bigint, unique: boolean) => T): T {
  using namespace = trialNamespace();
  using context = fsopen('tmpfs');
  fsconfigString(context.fd, 'source', 'shiftvol-doctor');
  fsconfigString(context.fd, 'size', '64k');
  fsconfigCreate(context.fd, 'tmpfs');
  using mount = fsmount(context.fd, MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC);
  mountSetIdmap(mount.fd, namespace.fd);
  mkdirSync(point, { mode: 0o700 });
  try {
    moveMount(mount.fd, point);
    try {
      const { mountId, mountIdUnique } = fstatx(mount.fd);
      return look(mountId, mountIdUnique);
    } finally {
      mount[Symbol.dispose](); // while it is open umount2 says EBUSY
      umount2(point, { lazy: false });
    }
  } finally {
    rmdirSync(point);
  }
}

function mountCalls(scratch: string): Check {
  if (!isRoot()) return notTried('kernel.mount-calls');
  withMappedTmpfs(join(scratch, 'mount'), () => {});
  return good('kernel.mount-calls', 'a file system was mounted detached, mapped, placed and taken away');
}

function readBack(scratch: string): Check {
  const check = 'kernel.statmount';
  if (!isRoot()) return notTried(check);
  const status = withMappedTmpfs(join(scratch, 'statmount'), (id, unique) =>
    unique ? whereSupported(() => statmount(id)) : undefined,
  );
  if (status?.uidMap === undefined)
    return warn(
      check,
      'the map of a mount cannot be read back (Linux 6.15): the owner of its root is looked at instead',
    );
  return status.uidMap.join() === TRIAL_MAP.trim()
    ? good(check, 'the map of a mount is read back from the kernel')
    : bad(check, `the kernel shows the map "${status.uidMap.join(', ')}" instead of "${TRIAL_MAP.trim()}"`);
}

function confinedOpen(): Check {
  const check = 'kernel.openat2';
  using proc = open('/proc', constants.O_RDONLY);
  try {
    using _ = openat2(proc.fd, 'self/root', O.PATH | O.CLOEXEC, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS);
    return bad(check, 'a magic link was followed although it was forbidden');
  } catch (error) {
    if (!isErrno(error, 'ELOOP')) throw error;
    return good(check, 'paths are opened without leaving their tree');
  }
}

async function loopDevice(scratch: string): Promise<Check> {
  const check = 'kernel.loop';
  if (!isRoot()) return notTried(check);
  const path = join(scratch, 'loop');
  using file = open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  ftruncateSync(file.fd, 2 ** 20);
  using loop = await loopAttach(file.fd, { readOnly: false, directIo: true, name: path });
  const { autoclear, directIo } = loopStatus(loop.fd);
  if (!autoclear) return bad(check, 'the device would stay after its last user', OLD);
  return directIo
    ? good(check, 'devices free themselves, direct I/O')
    : warn(check, `devices free themselves; no direct I/O in ${scratch}, so data is cached twice there`);
}

function listNamespaces(): Check {
  const check = 'kernel.mount-namespaces';
  return mountNamespaceIds().length > 0
    ? good(check, 'all mount namespaces can be walked')
    : warn(check, 'one without a process that holds a copy of a mount cannot be named (Linux 6.12)');
}

function kernelLog(): Check {
  using log = new KernelLog();
  return log.readable
    ? good('kernel.log', '/dev/kmsg is readable: its reasons are told')
    : warn(
        'kernel.log',
        '/dev/kmsg is not readable: why the kernel refuses an image stays in its log',
        'add CAP_SYSLOG and /dev/kmsg',
      );
}
