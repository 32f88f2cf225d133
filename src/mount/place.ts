import { constants, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import type { BlockDevice, Mounted, MountSpec } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import type { IdKind } from '../idmap/idmap.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import type { MountFd } from '../kernel/fd.ts';
import type { KernelLogs } from '../kernel/kmsg.ts';
import { mountSetIdmap, moveMount, umount2 } from '../kernel/mount.ts';
import { STATMOUNT, statmount, whereSupported } from '../kernel/statmount.ts';
import { type FileStatus, fstatx, statx, statxIfThere } from '../kernel/statx.ts';
import { freshMount } from './fresh.ts';
import { type GuardedMount, guard, hostIdOf } from './guard.ts';
import { readMountinfo, topmostAt } from './mountinfo.ts';
import { inUse } from './open-file.ts';
import { OpenedDevice } from './opened-device.ts';
import { StagedDevice } from './staged.ts';
import type { UsernsCache } from './userns-cache.ts';

type Deps = { readonly procRoot: string; readonly namespaces: UsernsCache; readonly logs: KernelLogs };

/**
 * From a device to a mapped mount at its path. It is built without a path; the path shows nothing or all of it.
 * Whatever fails, nothing is left: no mount, no directory.
 */
export async function place(
  deps: Deps,
  device: BlockDevice,
  spec: MountSpec,
  signal: AbortSignal | undefined,
): Promise<Mounted> {
  const guarded = guard(device.fsType, spec);
  const there = statxIfThere(guarded.path);
  if (there?.mountRoot === true) return requireSame(deps, there, device, guarded);
  if (device instanceof OpenedDevice && device.found && isMountedSomewhere(deps, device))
    throw inUse(`Cannot mount ${device.path} at ${JSON.stringify(guarded.path)}: it is mounted already`);
  signal?.throwIfAborted();
  const staged = device instanceof StagedDevice && !spec.readOnly ? device : undefined;
  // The namespace is kept for the moment, below, in which it is used.
  using mount =
    staged?.take() ?? (await freshMount(deps.logs, device, guarded, () => void deps.namespaces.get(guarded.maps)));
  signal?.throwIfAborted();
  const owner = fstatx(mount.fd);
  const expected = requireMappedRoot(owner, device, guarded, spec.idBase);
  // Whatever it was staged with and is not to have: setuid programs, for a root file system.
  setIdmap(deps, mount.fd, device, guarded, (staged?.attributes ?? 0) & ~guarded.attributes);
  requireOwner(fstatx(mount.fd), expected, guarded);
  makeDirectory(guarded.path);
  let placed = false;
  try {
    moveMount(mount.fd, guarded.path);
    placed = true;
    return verified(mount.fd, guarded);
  } catch (error) {
    // Our own descriptor still holds it: lazy, and gone as soon as that is closed, when this function is left.
    if (placed) umount2(guarded.path, { lazy: true });
    removeIfEmpty(guarded.path);
    throw error;
  }
}

export function mountedAt(path: string, status: FileStatus): Mounted {
  return { path, devno: status.devno, mountId: status.mountId };
}

/** The step was done before: the mount is ours if it is of this device and has this map. */
function requireSame(deps: Deps, status: FileStatus, device: BlockDevice, guarded: GuardedMount): Mounted {
  const what = `Cannot mount ${device.path} at ${JSON.stringify(guarded.path)}`;
  const entry = topmostAt(readMountinfo(deps.procRoot), guarded.path);
  if (status.devno !== device.devno && entry?.source !== device.path)
    throw new ShiftvolError('SV_TARGET_TAKEN', `${what}: ${entry?.source ?? status.devno} is mounted there`, {
      field: 'path',
    });
  const maps = readMaps(status);
  const isSame = maps === undefined ? isShownBy(guarded, status) : sameMaps(maps, guarded);
  if (entry?.options.includes('idmapped') !== true || !isSame)
    throw new ShiftvolError('SV_TARGET_TAKEN', `${what}: it is mounted there with another idmap`, { field: 'path' });
  return mountedAt(guarded.path, status);
}

/** Where the kernel does not tell a mount's map (before Linux 6.15): the root's owner is shown as an id of this one. */
function isShownBy({ idmap }: GuardedMount, { uid, gid }: FileStatus): boolean {
  const shown = { uid, gid };
  return (['uid', 'gid'] as const).every(kind =>
    idmap.some(e => e.kind === kind && shown[kind] >= e.hostId && shown[kind] < e.hostId + e.count),
  );
}

function isMountedSomewhere({ procRoot }: Deps, device: BlockDevice): boolean {
  return readMountinfo(procRoot).some(m => m.devno === device.devno || m.source === device.path);
}

/**
 * The owner of the root directory on disk must be an id that the map knows: with the wrong base all files would belong to 65534. It need
 * not be the base itself, since the container's users may have given the directory to one of theirs.
 * @returns the host ids that the owner has to show as
 */
function requireMappedRoot(
  owner: FileStatus,
  device: BlockDevice,
  { path, idmap }: GuardedMount,
  idBase: number,
): Record<IdKind, number> {
  const [uid, gid] = [hostIdOf(idmap, 'uid', owner.uid), hostIdOf(idmap, 'gid', owner.gid)];
  if (uid !== undefined && gid !== undefined) return { uid, gid };
  throw new ShiftvolError(
    'SV_IMAGE_REFUSED',
    `Cannot mount ${device.path} at ${JSON.stringify(path)}: its root directory belongs to ${owner.uid}:${owner.gid} on disk, the map has ids from ${idBase} on`,
    { field: 'idBase', remedy: 'give the first id that the image uses on disk as its id base' },
  );
}

function setIdmap(
  { namespaces }: Deps,
  mount: MountFd,
  device: BlockDevice,
  guarded: GuardedMount,
  clear: number,
): void {
  try {
    mountSetIdmap(mount, namespaces.get(guarded.maps), clear);
  } catch (error) {
    if (!isErrno(error, 'EINVAL') || error.call !== 'mount_setattr') throw error;
    throw new ShiftvolError(
      'SV_HOST',
      `Cannot map the owners of the ${device.fsType} on ${device.path}: this kernel cannot`,
      {
        remedy: 'use Linux 5.15 or later, or another file system',
        cause: error,
      },
    );
  }
}

function requireOwner(shown: FileStatus, expected: Record<IdKind, number>, { path }: GuardedMount): void {
  if (shown.uid === expected.uid && shown.gid === expected.gid) return;
  throw new ShiftvolError(
    'SV_INTERNAL',
    `Cannot mount at ${JSON.stringify(path)}: the root directory shows as ${shown.uid}:${shown.gid}, expected is ${expected.uid}:${expected.gid}`,
  );
}

/** The last directory only; an empty one is left from a time when we were killed. */
function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR'))
      throw new ShiftvolError(
        'SV_TARGET_INVALID',
        `Cannot mount at ${JSON.stringify(path)}: its parent is no directory`,
        {
          field: 'path',
          cause: error,
        },
      );
    if (!isNodeErrno(error, 'EEXIST')) throw error;
    requireEmpty(path);
  }
}

function requireEmpty(path: string): void {
  const isDirectory = (statx(path).mode & constants.S_IFMT) === constants.S_IFDIR;
  if (isDirectory && readdirSync(path).length === 0) return;
  throw new ShiftvolError(
    'SV_TARGET_TAKEN',
    `Cannot mount at ${JSON.stringify(path)}: there is ${isDirectory ? 'a directory that is not empty' : 'a file'}, accepted is nothing`,
    { field: 'path' },
  );
}

/** Undoing must not hide the error that it is for. */
function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (!isNodeErrno(error, 'ENOENT', 'ENOTEMPTY', 'EBUSY', 'ENOTDIR')) throw error;
  }
}

/** Before anybody is told of the mount, the kernel is asked what map it has (Linux 6.15; before, the root's owner has to do). */
function verified(mount: MountFd, guarded: GuardedMount): Mounted {
  const status = fstatx(mount);
  const maps = readMaps(status);
  if (maps !== undefined && !sameMaps(maps, guarded))
    throw new ShiftvolError(
      'SV_INTERNAL',
      `Cannot mount at ${JSON.stringify(guarded.path)}: the kernel shows another map`,
    );
  return mountedAt(guarded.path, status);
}

type Maps = { readonly uid: readonly string[]; readonly gid: readonly string[] };

function readMaps(status: FileStatus): Maps | undefined {
  if (!status.mountIdUnique) return undefined;
  const facts = whereSupported(() => statmount(status.mountId, { wanted: STATMOUNT.maps }));
  return facts?.uidMap && facts.gidMap && { uid: facts.uidMap, gid: facts.gidMap };
}

function sameMaps(maps: Maps, guarded: GuardedMount): boolean {
  // The kernel sorts maps of more than five extents.
  const lines = (text: readonly string[]) => text.toSorted().join('\n');
  return (['uid', 'gid'] as const).every(kind => lines(maps[kind]) === lines(guarded.maps[kind].trimEnd().split('\n')));
}
