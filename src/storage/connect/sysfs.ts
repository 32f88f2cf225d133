/** Block devices as the kernel describes them in sysfs: what is asked before a device is believed to be a volume. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
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

/** Writes one attribute; some wait for the device. @throws what Node's fs throws */
export async function writeAttribute(value: string, ...path: readonly string[]): Promise<void> {
  await writeFile(join(...path), value);
}

/** The device-mapper device of this name or on this device whose uuid begins with `uuid`: `/dev/dm-3`. */
export function mapperOf(
  sysRoot: string,
  { name, on, uuid }: { readonly name?: string; readonly on?: string; readonly uuid: string },
): { readonly device: string; readonly name: string } | undefined {
  const candidates = on === undefined ? entries(sysRoot, 'class/block') : holdersOf(sysRoot, on);
  for (const candidate of candidates.filter(n => n.startsWith('dm-'))) {
    const [theirs, theirName] = ['uuid', 'name'].map(key => attribute(sysRoot, 'class/block', candidate, 'dm', key));
    if (theirs?.startsWith(uuid) && theirName !== undefined && (name === undefined || theirName === name))
      return { device: `/dev/${candidate}`, name: theirName };
  }
  return undefined;
}

/** Whether udevd makes device nodes and symbolic links here: tools that wait for it would wait for ever. */
export function hasUdev(): boolean {
  return existsSync('/run/udev/control');
}
