import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Connection } from '../../engine/model.ts';
import { isNodeErrno } from '../../kernel/errno.ts';
import { stillUsed } from './connector.ts';
import { waitUntil } from './wait.ts';

const PASSING_MS = 2000;

/** O_EXCL on a block device: nobody has it mounted, as part of another device, or open exclusively. @see open(2) */
export async function isUnused(device: string): Promise<boolean> {
  try {
    const file = await open(device, constants.O_RDONLY | constants.O_EXCL | constants.O_NONBLOCK);
    await file.close();
    return true;
  } catch (error) {
    if (isNodeErrno(error, 'EBUSY')) return false;
    if (isNodeErrno(error, 'ENXIO', 'ENOENT', 'ENODEV', 'ENOMEDIUM', 'EIO')) return true;
    throw error;
  }
}

/**
 * The kernel lets most devices go from under a mount, so that it is asked first. What looks for volume groups and the like at a new
 * device holds it for a moment. @throws SV_BUSY
 */
export async function requireUnused(connection: Connection, device: string): Promise<void> {
  if (!(await waitUntil(() => isUnused(device), PASSING_MS))) throw stillUsed(connection, `${device} is in use`);
}
