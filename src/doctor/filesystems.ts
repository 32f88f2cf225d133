/** The file systems, each with a real image made for it: mounted detached, mapped, never with a path. */
import { closeSync, ftruncateSync, openSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { FS_TYPES, type FsType } from '../engine/model.ts';
import { isError, ShiftvolError } from '../errors.ts';
import { isErrno } from '../kernel/errno.ts';
import type { MountFd } from '../kernel/fd.ts';
import { fsconfigCreate, fsconfigString, fsopen, mountSetIdmap, openTreeClone } from '../kernel/mount.ts';
import { fstatx } from '../kernel/statx.ts';
import { readMountinfo } from '../mount/mountinfo.ts';
import { mountPrivately, waitUnused } from '../storage/private-mount.ts';
import { runTool } from '../storage/tool.ts';
import { attempt, type Check, good, isRoot, notTried, warn } from './check.ts';
import { trialNamespace } from './kernel.ts';

const MIB = 2 ** 20;
/** Near the smallest that each mkfs makes; sparse. */
const RECIPES = {
  ext4: { sizeBytes: 8 * MIB, mkfs: ['mke2fs', '-q', '-F', '-t', 'ext4'], package: 'e2fsprogs' },
  xfs: { sizeBytes: 320 * MIB, mkfs: ['mkfs.xfs', '-q'], package: 'xfsprogs' },
  btrfs: { sizeBytes: 128 * MIB, mkfs: ['mkfs.btrfs', '-q', '-m', 'single'], package: 'btrfs-progs' },
} as const satisfies Record<FsType, { sizeBytes: number; mkfs: readonly string[]; package: string }>;

const OWNER = { onDisk: 0, shown: 200_000 } as const;

/** `scratch`: a directory for tries, of our own. */
export async function filesystemChecks(scratch: string): Promise<Check[]> {
  const checks: Check[] = [];
  for (const type of FS_TYPES) checks.push(...(await filesystem(type, scratch)));
  return judged(checks);
}

/** One of the three is enough to work with; if none can be mapped, nothing can be attached at all. */
export function judged(checks: readonly Check[]): Check[] {
  const maps = checks.filter(c => c.check.startsWith('kernel.idmap-'));
  const tried = maps.filter(c => c.ok === true || !c.detail.startsWith('not tried'));
  if (tried.length === 0 || tried.some(c => c.ok === true)) return [...checks];
  return checks.map(c => (maps.includes(c) ? { ...c, ok: false } : c));
}

async function filesystem(type: FsType, scratch: string): Promise<Check[]> {
  const check = `kernel.idmap-${type}` as const;
  if (!isRoot()) return [notTried(check)];
  const image = join(scratch, `${type}.img`);
  try {
    await makeImage(type, image);
  } catch (error) {
    if (!isError(error, 'SV_HOST')) return [await attempt(check, () => Promise.reject(error), { ok: 'warn' })];
    return [await attempt(check, () => mountedOne(type), { ok: 'warn' })];
  }
  try {
    const remedy = `templates and volumes of ${type} need a kernel that can map it (ext4 and xfs 5.12, btrfs 5.15): modprobe ${type}`;
    const map = await attempt(check, () => mapImage(type, image), { ok: 'warn', remedy });
    if (map.ok !== true) return [map];
    if (type === 'ext4') return [map, await attempt('kernel.exclusive-mount', () => exclusive(image), { ok: 'warn' })];
    if (type === 'btrfs') return [map, await attempt('kernel.btrfs-clones', () => clones(image), { ok: 'warn' })];
    return [map];
  } finally {
    unlinkSync(image);
  }
}

async function makeImage(type: FsType, image: string): Promise<void> {
  const { sizeBytes, mkfs } = RECIPES[type];
  const fd = openSync(image, 'wx', 0o600);
  try {
    ftruncateSync(fd, sizeBytes);
  } finally {
    closeSync(fd);
  }
  const [file, ...args] = mkfs;
  try {
    await runTool(file, [...args, image]);
  } catch (error) {
    unlinkSync(image);
    throw error;
  }
}

async function mapImage(type: FsType, image: string): Promise<Check> {
  {
    using mount = await mountPrivately(image, { fsType: type, readOnly: false, directIo: true });
    mapAndLook(mount.fd);
  }
  await waitUnused(image);
  return good(`kernel.idmap-${type}`, `an image of ${type} was mounted with a map`);
}

function mapAndLook(mount: MountFd): void {
  using namespace = trialNamespace();
  mountSetIdmap(mount, namespace.fd);
  const { uid, gid } = fstatx(mount);
  if (uid !== OWNER.shown || gid !== OWNER.shown)
    throw new ShiftvolError(
      'SV_HOST',
      `Cannot map: owner ${OWNER.onDisk} shows as ${uid}:${gid} instead of ${OWNER.shown}`,
    );
}

/** No mkfs for it: a file system of the type that is mounted already tells as well, by a mapped detached copy of its mount. */
function mountedOne(type: FsType): Check {
  const check = `kernel.idmap-${type}` as const;
  const found = readMountinfo('/proc').find(m => m.fsType === type && !m.options.includes('idmapped'));
  const { package: wanted } = RECIPES[type];
  if (found === undefined)
    return warn(check, `not tried: no ${type} is mounted and no mkfs for it is installed`, `apt-get install ${wanted}`);
  using mount = openTreeClone(found.point);
  using namespace = trialNamespace();
  mountSetIdmap(mount.fd, namespace.fd);
  return good(check, `a copy of the mount at ${found.point} was mapped`);
}

/** A second mount of a device that is mounted must be refused, not share its superblock. */
async function exclusive(image: string): Promise<Check> {
  const check = 'kernel.exclusive-mount';
  {
    using first = await mountPrivately(image, { fsType: 'ext4', readOnly: false });
    using context = fsopen('ext4');
    fsconfigString(context.fd, 'source', `/dev/loop${fstatx(first.fd).devno.split(':')[1]}`);
    try {
      fsconfigCreate(context.fd, image);
    } catch (error) {
      if (!isErrno(error, 'EBUSY')) throw error;
      context[Symbol.dispose]();
      first[Symbol.dispose]();
      await waitUnused(image);
      return good(check, 'a device is never mounted a second time');
    }
  }
  await waitUnused(image);
  return warn(
    check,
    'a device that is mounted can be mounted again (before Linux 6.6): it is opened exclusively instead',
  );
}

/** Snapshots of one template have one UUID: two of them must mount at the same time, and stay apart. */
async function clones(image: string): Promise<Check> {
  const check = 'kernel.btrfs-clones';
  const copy = `${image}.copy`;
  await runTool('cp', ['--sparse=always', image, copy]);
  try {
    {
      using _first = await mountPrivately(image, { fsType: 'btrfs', readOnly: false });
      using _second = await mountPrivately(copy, { fsType: 'btrfs', readOnly: false });
    }
    await Promise.all([waitUnused(image), waitUnused(copy)]);
    return good(check, 'two snapshots of one btrfs template mount side by side');
  } catch (error) {
    if (!isError(error, 'SV_MOUNT')) throw error;
    await Promise.all([waitUnused(image), waitUnused(copy)]);
    return warn(
      check,
      'two snapshots of one btrfs template cannot be mounted at the same time (before Linux 6.7)',
      'use xfs or ext4 for templates',
    );
  } finally {
    unlinkSync(copy);
  }
}
