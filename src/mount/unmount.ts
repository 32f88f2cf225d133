import { rmdirSync } from 'node:fs';
import { FS_TYPES } from '../engine/model.ts';
import type { Holder } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { MOUNT_ATTR, umount2Async } from '../kernel/mount.ts';
import { STATMOUNT, statmount, whereSupported } from '../kernel/statmount.ts';
import { type FileStatus, statxIfThere } from '../kernel/statx.ts';
import { findHolders, namespaceOf, tellHolders } from './holders.ts';
import { type MountInfo, readMountinfo, topmostAt } from './mountinfo.ts';

type Deps = { readonly procRoot: string; readonly sysRoot: string };

/**
 * umount2 of our mount, then rmdir of its directory, and nothing else: no child mount, no tree, no second try by force. A mount that is
 * not ours, on the path, on top or below, is left alone.
 */
export async function unmount(deps: Deps, path: string, options: { lazy: boolean }): Promise<void> {
  const status = statxIfThere(path);
  if (status === undefined) return;
  if (status.mountRoot) {
    requireOurs(deps, path, status);
    if (options.lazy) requireNothingBelow(deps, path);
    await umountOrTell(deps, path, options);
  }
  removeDirectory(path);
}

async function umountOrTell(deps: Deps, path: string, options: { lazy: boolean }): Promise<void> {
  try {
    await umount2Async(path, options);
  } catch (error) {
    if (isErrno(error, 'EINVAL', 'ENOENT')) return; // gone meanwhile
    if (!isErrno(error, 'EBUSY')) throw error;
    const entry = topmostAt(readMountinfo(deps.procRoot), path);
    if (entry === undefined) return;
    const holders = await findHolders(deps, entry, namespaceOf(deps.procRoot, 'self'));
    if (holders.length > 0) throw busy(`Cannot unmount ${JSON.stringify(path)}`, holders, error);
    // Whoever it was has let go while we were looking.
    await umount2Async(path, options).catch((again: unknown) => {
      throw isErrno(again, 'EBUSY') ? busy(`Cannot unmount ${JSON.stringify(path)}`, [], again) : again;
    });
  }
}

export function busy(what: string, holders: readonly Holder[], cause?: unknown): ShiftvolError {
  return new ShiftvolError('SV_BUSY', `${what}: it is used by ${tellHolders(holders)}`, {
    remedy: 'end what uses it, or detach with --lazy',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Ours have a map, show the root of one of our file systems, and lie on a directory, not on another mount. */
function requireOurs({ procRoot }: Deps, path: string, status: FileStatus): void {
  const problem = foreignByStatmount(path, status) ?? foreignByMountinfo(procRoot, path, status);
  if (problem === '') return;
  throw new ShiftvolError(
    'SV_BUSY',
    `Cannot unmount ${JSON.stringify(path)}: ${problem}, which shiftvol did not mount`,
    {
      remedy: 'unmount that first',
    },
  );
}

/** What lies there, '' for one of ours, undefined where the kernel is too old to be asked (6.8). */
function foreignByStatmount(path: string, status: FileStatus): string | undefined {
  if (!status.mountIdUnique) return undefined;
  return whereSupported(() => {
    const mount = statmount(status.mountId, { wanted: STATMOUNT.kind });
    const idmapped = (mount.attributes & BigInt(MOUNT_ATTR.IDMAP)) !== 0n;
    if (!idmapped || mount.root !== '/' || !isOurType(mount.fsType))
      return `a ${mount.fsType ?? 'file system'} is mounted there`;
    const { point } = statmount(mount.parentId, { wanted: STATMOUNT.point });
    return point === path ? `a ${mount.fsType} lies on top of another mount` : '';
  });
}

function foreignByMountinfo(procRoot: string, path: string, status: FileStatus): string {
  const stack = readMountinfo(procRoot).filter(m => m.point === path);
  const [mount, second] = stack;
  if (mount === undefined) return '';
  if (second !== undefined) return `a ${stack.at(-1)?.fsType} lies on top of another mount`;
  const ours = mount.options.includes('idmapped') && mount.root === '/' && isOurType(mount.fsType);
  const same = mount.devno === status.devno || mount.fsType === 'btrfs';
  return ours && same ? '' : `a ${mount.fsType} is mounted there`;
}

function isOurType(fsType: string | undefined): boolean {
  return FS_TYPES.some(type => type === fsType);
}

/** A lazy unmount takes all that is mounted below along. */
function requireNothingBelow({ procRoot }: Deps, path: string): void {
  const below: MountInfo | undefined = readMountinfo(procRoot).find(m => m.point.startsWith(`${path}/`));
  if (below === undefined) return;
  throw new ShiftvolError(
    'SV_BUSY',
    `Cannot unmount ${JSON.stringify(path)}: a ${below.fsType} is mounted below it at ${JSON.stringify(below.point)}`,
    { remedy: 'unmount that first' },
  );
}

function removeDirectory(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT')) return;
    if (!isNodeErrno(error, 'ENOTEMPTY', 'EEXIST', 'EBUSY', 'ENOTDIR')) throw error;
    throw new ShiftvolError(
      'SV_BUSY',
      `Cannot remove the directory ${JSON.stringify(path)}: it is not empty, or something is mounted there`,
      {
        remedy: 'look at what lies there and move it away',
        cause: error,
      },
    );
  }
}
