/** Block devices as the kernel describes them in sysfs: what is asked before a device is believed to be a volume. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isNodeErrno } from '../../kernel/errno.ts';

const SECTOR_BYTES = 512;

/** The text of one attribute without its newline; undefined where the device or the attribute is not there, or not any more. */
export function attribute(...path: readonly string[]): string | undefined {
  try {
    return readFileSync(join(...path), 'utf8').trim();
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR', 'ENXIO', 'ENODEV', 'EINVAL', 'EIO', 'EACCES')) return undefined;
    throw error;
  }
}

/** Names in a directory of sysfs; none where it is not there: its module is not loaded. */
export function entries(...path: readonly string[]): readonly string[] {
  try {
    return readdirSync(join(...path));
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR', 'ENODEV')) return [];
    throw error;
  }
}

/** Size of a block device in bytes; 0 where nothing is behind it. `device`: `/dev/nbd0` or `nbd0`. */
export function deviceSize(sysRoot: string, device: string): number {
  return Number(attribute(sysRoot, 'class/block', basename(device), 'size') ?? 0) * SECTOR_BYTES;
}

/** Who stands on the device: dm devices, RAIDs, by their kernel names. */
export function holdersOf(sysRoot: string, device: string): readonly string[] {
  return entries(sysRoot, 'class/block', basename(device), 'holders');
}
