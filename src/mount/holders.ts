/** Who keeps a file system in use. Walks over all processes, so it is for when something is busy; touches no file system but /proc. */
import { closeSync, constants, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import type { Holder } from '../engine/ports.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { O } from '../kernel/libc.ts';
import { mountNamespaceIds } from '../kernel/namespaces.ts';
import { listmount, statmount } from '../kernel/statmount.ts';
import { loopsInUse, undeleted } from './loops.ts';
import { type MountInfo, readMountinfo } from './mountinfo.ts';

/** What is held: a superblock, by the device number in mount tables or by its source. */
export type Held = { readonly devno: string; readonly source: string };
type Roots = { readonly procRoot: string; readonly sysRoot: string };
/** Mounts of it seen in one mount namespace, and the process through which they were seen. */
type Copy = {
  readonly namespace: string;
  readonly pid: number;
  readonly mounts: readonly MountInfo[];
  readonly below: readonly MountInfo[];
};

const SLICE_MS = 5;

/**
 * Processes that hold it by working directory, root, program, descriptor or mapping; mounts below it; loop images stored on it; mounts of
 * it in other mount namespaces than `home` (the one where an unmount was refused, or undefined: every mount counts).
 */
export async function findHolders(roots: Roots, held: Held, home: string | undefined): Promise<readonly Holder[]> {
  const copies = findCopies(roots.procRoot, held);
  const ids = new Set(copies.flatMap(c => c.mounts.map(m => m.mountId)));
  const devnos = new Set([held.devno, ...copies.flatMap(c => c.mounts.map(m => m.devno))]);
  const holders: Holder[] = [
    ...copies.flatMap(c => ofCopy(roots.procRoot, c, home)),
    ...loopImages(roots.sysRoot, copies),
  ];
  let sliceEnd = performance.now() + SLICE_MS;
  for (const pid of pids(roots.procRoot)) {
    holders.push(...ofProcess(roots.procRoot, pid, ids, devnos));
    if (performance.now() < sliceEnd) continue;
    await yieldToOthers();
    sliceEnd = performance.now() + SLICE_MS;
  }
  return holders.length > 0 ? holders : processless(held, devnos);
}

/** `postgres (pid 812, cwd)`, at most five of them. */
export function tellHolders(holders: readonly Holder[]): string {
  if (holders.length === 0) return 'something that cannot be seen from here';
  const told = holders
    .slice(0, 5)
    .map(h => (h.pid === 0 ? `${h.comm} (${h.how})` : `${h.comm} (pid ${h.pid}, ${h.how})`));
  return told.join(', ') + (holders.length > told.length ? ` and ${holders.length - told.length} more` : '');
}

/** `mnt:[4026531841]` */
export function namespaceOf(procRoot: string, pid: number | string): string {
  return readlinkSync(join(procRoot, String(pid), 'ns/mnt'));
}

function pids(procRoot: string): readonly number[] {
  return readdirSync(procRoot)
    .filter(name => /^\d+$/.test(name))
    .map(Number);
}

/** Processes end while they are looked at: then they hold nothing. */
function unlessGone<T>(look: () => T, otherwise: T): T {
  try {
    return look();
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM', 'EINVAL', 'ENOTDIR', 'ELOOP')) return otherwise;
    throw error;
  }
}

function findCopies(procRoot: string, held: Held): readonly Copy[] {
  const seen = new Set<string>();
  return pids(procRoot).flatMap(pid =>
    unlessGone((): Copy[] => {
      const namespace = namespaceOf(procRoot, pid);
      if (seen.has(namespace)) return [];
      const table = readMountinfo(procRoot, pid);
      seen.add(namespace);
      const mounts = table.filter(m => m.devno === held.devno || m.source === held.source);
      const ids = new Set(mounts.map(m => m.mountId));
      const below = table.filter(m => ids.has(m.parentId) && !ids.has(m.mountId));
      return mounts.length === 0 ? [] : [{ namespace, pid, mounts, below }];
    }, []),
  );
}

function ofCopy(
  procRoot: string,
  { namespace, pid, mounts, below }: Copy,
  home: string | undefined,
): readonly Holder[] {
  const comm = commOf(procRoot, pid);
  const where = containerOf(procRoot, pid) ?? `mount namespace ${namespace}`;
  const copies = namespace === home ? [] : mounts.map(m => ({ pid, comm, how: `mounted at ${m.point} in ${where}` }));
  return [...copies, ...below.map(m => ({ pid, comm, how: `${m.fsType} mounted below it at ${m.point} in ${where}` }))];
}

function loopImages(sysRoot: string, copies: readonly Copy[]): readonly Holder[] {
  const points = copies.flatMap(c => c.mounts.map(m => m.point));
  return loopsInUse(sysRoot)
    .filter(loop => points.some(point => undeleted(loop).startsWith(`${point}/`)))
    .map(loop => ({ pid: 0, comm: loop.name, how: `loop device of ${loop.backingFile}` }));
}

function ofProcess(
  procRoot: string,
  pid: number,
  ids: ReadonlySet<number>,
  devnos: ReadonlySet<string>,
): readonly Holder[] {
  const ways = [
    ...['cwd', 'root', 'exe'].filter(link => ids.has(mountIdOf(procRoot, pid, link))),
    ...descriptors(procRoot, pid, ids),
    ...mappings(procRoot, pid, devnos),
  ];
  if (ways.length === 0) return [];
  const container = containerOf(procRoot, pid);
  return ways.map(how => ({ pid, comm: commOf(procRoot, pid), how: container ? `${how} in ${container}` : how }));
}

/** Of a magic link, through an O_PATH descriptor of ours: opening that asks no file system. */
function mountIdOf(procRoot: string, pid: number, link: string): number {
  return unlessGone(() => {
    const fd = openSync(join(procRoot, String(pid), link), O.PATH | constants.O_RDONLY);
    try {
      return parseMountId(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
    } finally {
      closeSync(fd);
    }
  }, -1);
}

function descriptors(procRoot: string, pid: number, ids: ReadonlySet<number>): readonly string[] {
  const dir = join(procRoot, String(pid));
  const names = unlessGone(() => readdirSync(join(dir, 'fdinfo')), []);
  return names.flatMap(name =>
    unlessGone((): string[] => {
      if (!ids.has(parseMountId(readFileSync(join(dir, 'fdinfo', name), 'utf8')))) return [];
      return [`open file ${readlinkSync(join(dir, 'fd', name))}`];
    }, []),
  );
}

function parseMountId(fdinfo: string): number {
  const [, id] = /^mnt_id:\s+(\d+)/m.exec(fdinfo) ?? [];
  return id === undefined ? -1 : Number(id);
}

/** `7f.. r--p 00000000 07:03 12  /mnt/lib.so`; devices stand there in hexadecimal. */
function mappings(procRoot: string, pid: number, devnos: ReadonlySet<string>): readonly string[] {
  const text = unlessGone(() => readFileSync(join(procRoot, String(pid), 'maps'), 'utf8'), '');
  return [...devnos].flatMap(devno => {
    const [major = 0, minor = 0] = devno.split(':').map(Number);
    const at = text.indexOf(` ${hex(major)}:${hex(minor)} `);
    if (at === -1) return [];
    const path = text.slice(at, text.indexOf('\n', at));
    return [`mapped file ${path.includes('/') ? path.slice(path.indexOf('/')) : ''}`.trimEnd()];
  });
}

function hex(number: number): string {
  return number.toString(16).padStart(2, '0');
}

function commOf(procRoot: string, pid: number): string {
  return unlessGone(() => readFileSync(join(procRoot, String(pid), 'comm'), 'utf8').trim(), '?');
}

/** LXC, LXD and Incus put a container's processes into a control group named `lxc.payload.NAME`. */
function containerOf(procRoot: string, pid: number): string | undefined {
  const groups = unlessGone(() => readFileSync(join(procRoot, String(pid), 'cgroup'), 'utf8'), '');
  const [, name] = /\/lxc\.payload[./]([^/\n]+)/.exec(groups) ?? [];
  return name && `container ${name}`;
}

/** Mount namespaces that only a descriptor or a bind mount keeps: /proc does not show them. Linux 6.12. */
function processless(held: Held, devnos: ReadonlySet<string>): readonly Holder[] {
  return mountNamespaceIds().flatMap(namespace =>
    unlessUnmounted(() => listmount({ namespace })).flatMap(id =>
      unlessUnmounted(() => [statmount(id, { namespace })])
        .filter(mount => devnos.has(mount.devno) || mount.source === held.source)
        .map(mount => ({
          pid: 0,
          comm: 'nobody',
          how: `mounted at ${mount.point ?? '?'} in mount namespace number ${namespace}, which has no process`,
        })),
    ),
  );
}

/** Namespaces and mounts go while they are looked at. */
function unlessUnmounted<T>(look: () => readonly T[]): readonly T[] {
  try {
    return look();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOSYS')) return [];
    throw error;
  }
}
