import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { isNodeErrno } from '../../kernel/errno.ts';
import { attribute, deviceSize } from './sysfs.ts';

/**
 * Whether a device can be used: it has a size, and what opens under its name is it. sysfs shows a disk a moment before it can be opened,
 * and /dev may still have the node of one that had the name before.
 */
export async function isReady(sysRoot: string, device: string): Promise<boolean> {
  const devno = attribute(sysRoot, 'class/block', basename(device), 'dev');
  if (devno === undefined || deviceSize(sysRoot, device) === 0) return false;
  try {
    await using file = await open(device, constants.O_RDONLY | constants.O_NONBLOCK);
    const { rdev } = await file.stat({ bigint: true });
    return devnoOf(rdev) === devno;
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENXIO', 'ENODEV', 'ENOMEDIUM')) return false;
    throw error;
  }
}

/** As glibc packs it. @see makedev(3) */
function devnoOf(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn & 0xffffffffn);
  return `${major}:${minor}`;
}
