import { constants, fstatSync, realpathSync } from 'node:fs';
import { ShiftvolError } from '../errors.ts';
import { isNodeErrno } from '../kernel/errno.ts';
import { type Fd, type Owned, open } from '../kernel/fd.ts';
import { O_SUSPICIOUS } from '../kernel/file-lock.ts';
import { fstatx, statx } from '../kernel/statx.ts';
import { type MountInfo, readMountinfo } from './mountinfo.ts';
import { inUse, refused, requireReplayable } from './open-file.ts';
import { OpenedDevice } from './opened-device.ts';
import { probeImage } from './probe.ts';

type Options = { readonly procRoot: string; readonly readOnly: boolean };

/** A block device as it is. Names like /dev/mapper/x or /dev/disk/by-id/y are followed to the node. */
export async function openBlock(path: string, { procRoot, readOnly }: Options): Promise<OpenedDevice> {
  const node = findNode(path);
  const access = (readOnly ? constants.O_RDONLY : constants.O_RDWR) | O_SUSPICIOUS;
  using exclusive = openExclusive(node, access, path);
  // What stays open is not exclusive, which would keep the mount out, and read-only, as for loop devices.
  using scope = new DisposableStack();
  const kept = scope.use(open(node, constants.O_RDONLY | O_SUSPICIOUS));
  const devno = fstatx(kept.fd).rdevno;
  if (exclusive === undefined) requireOwnMounts(procRoot, devno, node, path);
  const facts = await probeImage(kept.fd, JSON.stringify(path));
  requireReplayable(facts, path, readOnly);
  return new OpenedDevice({ path: node, devno }, facts, exclusive === undefined, scope.move());
}

function findNode(path: string): string {
  const what = JSON.stringify(path);
  try {
    const node = realpathSync(path);
    if ((statx(node).mode & constants.S_IFMT) !== constants.S_IFBLK)
      throw refused(`Cannot use ${what} as a device: it is not a block device`, { remedy: 'name an image as a file' });
    return node;
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP'))
      throw new ShiftvolError('SV_VOLUME_NOT_FOUND', `Cannot open ${what}: there is no such device`, { cause: error });
    throw error;
  }
}

/** O_EXCL on a block device: nobody has it mounted, as part of a RAID or volume group, or open exclusively. @see open(2) */
function openExclusive(node: string, access: number, path: string): Owned<Fd> | undefined {
  try {
    const device = open(node, access | constants.O_EXCL);
    if (fstatSync(device.fd).isBlockDevice()) return device;
    device[Symbol.dispose]();
    throw refused(`Cannot use ${JSON.stringify(path)} as a device: it is not a block device`);
  } catch (error) {
    if (isNodeErrno(error, 'EBUSY')) return undefined;
    if (isNodeErrno(error, 'ENXIO', 'ENODEV', 'ENOMEDIUM', 'ENOENT'))
      throw new ShiftvolError(
        'SV_VOLUME_NOT_FOUND',
        `Cannot open ${JSON.stringify(path)}: there is no device behind it`,
        {
          cause: error,
        },
      );
    if (isNodeErrno(error, 'EROFS', 'EACCES', 'EPERM'))
      throw refused(`Cannot open ${JSON.stringify(path)} for writing: it is read-only`, {
        remedy: 'attach it read-only',
        cause: error,
      });
    throw error;
  }
}

/** Mounts with a map are ours, and then `mount` decides; anything else in use is not for us to touch. */
function requireOwnMounts(procRoot: string, devno: string, node: string, path: string): void {
  const mounts = readMountinfo(procRoot).filter(m => m.devno === devno || m.source === node);
  if (mounts.length > 0 && mounts.every(isMapped)) return;
  const where = mounts.find(m => !isMapped(m));
  throw inUse(
    `Cannot use ${JSON.stringify(path)}: it is ${where ? `mounted at ${JSON.stringify(where.point)}` : 'in use by the kernel (volume group, RAID, swap, another mount namespace) or opened exclusively'}`,
  );
}

/** @see proc_pid_mountinfo(5), Linux 5.12 */
export function isMapped(mount: MountInfo): boolean {
  return mount.options.includes('idmapped');
}
