import { basename } from 'node:path';
import type { BlockDevice } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import { isErrno, type KernelError } from '../kernel/errno.ts';
import type { MountFd, Owned } from '../kernel/fd.ts';
import type { KernelLog, KernelLogs } from '../kernel/kmsg.ts';
import {
  type FsContextFd,
  fsconfigCreateAsync,
  fsconfigFlag,
  fsconfigString,
  fsLog,
  fsmount,
  fsopen,
} from '../kernel/mount.ts';
import type { GuardedMount, UnseenMount } from './guard.ts';

/**
 * A mount of a superblock that nobody else has, not visible anywhere yet.
 * `meanwhile` is called while another thread waits for the kernel, which reads the disk for a millisecond or ten.
 * @throws SV_MOUNT with the kernel's own words; SV_VOLUME_IN_USE: the device is mounted; SV_HOST: the kernel lacks this file system
 */
export async function freshMount(
  logs: KernelLogs,
  device: BlockDevice,
  mount: GuardedMount | UnseenMount,
  meanwhile: () => void,
): Promise<Owned<MountFd>> {
  using context = openContext(mount);
  using loan = logs.borrow();
  try {
    fsconfigString(context.fd, 'source', device.path);
    for (const option of mount.options) {
      if (typeof option === 'string') fsconfigFlag(context.fd, option);
      else fsconfigString(context.fd, option[0], option[1]);
    }
    const created = fsconfigCreateAsync(context.fd, device.path);
    try {
      meanwhile();
    } finally {
      await created; // whatever happens, nobody closes the context under it
    }
    return fsmount(context.fd, mount.attributes);
  } catch (error) {
    if (!isErrno(error) || !error.call.startsWith('fs')) throw error; // of what was done meanwhile
    throw explainFailure(error, device, mount, {
      words: kernelWords(context.fd, loan.log, device.path),
      readable: loan.log.readable,
    });
  }
}

function openContext({ fsType }: GuardedMount | UnseenMount): Owned<FsContextFd> {
  try {
    return fsopen(fsType);
  } catch (error) {
    if (!isErrno(error, 'ENODEV')) throw error;
    throw new ShiftvolError('SV_HOST', `Cannot mount ${fsType}: this kernel has no such file system`, {
      remedy: `load the module ${fsType}, or use another file system`,
      cause: error,
    });
  }
}

/** What is wrong with a parameter stands in the context's log, what is wrong with the image in the kernel's. */
function kernelWords(context: FsContextFd, log: KernelLog, devicePath: string): readonly string[] {
  const own = fsLog(context).map(line => line.replace(/^[ewi] /, ''));
  return [...own, ...log.linesAbout(basename(devicePath)).filter(line => !NOISE.test(line))];
}
/** Said of every device, good or bad. */
const NOISE =
  /detected capacity change|^BTRFS info|^BTRFS: device .* scanned by|Mounting V\d Filesystem|Ending clean mount/;
/** A badly damaged file system logs hundreds of lines; the first ones have the cause. */
const LINES_TOLD = 4;

function explainFailure(
  error: KernelError,
  device: BlockDevice,
  mount: GuardedMount | UnseenMount,
  log: { readonly words: readonly string[]; readonly readable: boolean },
): ShiftvolError {
  const { fsType } = mount;
  const where = 'path' in mount ? ` at ${JSON.stringify(mount.path)}` : '';
  const what = `Cannot mount the ${fsType} on ${device.path}${where}`;
  if (error.errnoName === 'EBUSY')
    return new ShiftvolError('SV_VOLUME_IN_USE', `${what}: the device is mounted or in use already`, { cause: error });
  if (error.errnoName === 'EEXIST' && fsType === 'btrfs')
    return new ShiftvolError(
      'SV_HOST',
      `${what}: another clone of btrfs ${device.uuid} is mounted, this kernel takes one only`,
      {
        remedy: 'use Linux 6.7 or later, or a template with ext4 or xfs',
        cause: error,
      },
    );
  const words = log.words.slice(0, LINES_TOLD).join('; ');
  const reason =
    words === '' ? `the kernel says ${error.errnoName} and nothing else` : `the kernel says ${JSON.stringify(words)}`;
  return new ShiftvolError('SV_MOUNT', `${what}: ${reason}`, {
    field: 'image',
    ...(log.readable ? {} : { remedy: 'see the kernel log (dmesg), which this process may not read' }),
    cause: error,
  });
}
