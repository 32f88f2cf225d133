/**
 * LXD wants a storage pool for every container, and a directory for its root file system in it. Ours has a pool of driver `dir` with
 * nothing in it but those empty directories: the root file system itself lies outside, where LXD neither unmounts it before each start
 * (as it does with whatever is mounted on its own directory, seen with 5.0.2) nor deletes it with the container.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShiftvolError } from '../../errors.ts';
import { isNodeErrno } from '../../kernel/errno.ts';
import type { LxdClient } from './client.ts';
import { LxdError } from './lxd-error.ts';
import { poolSource } from './wire.ts';

export const ROOT_POOL = 'shiftvol';
const POOL_PATH = `/1.0/storage-pools/${ROOT_POOL}`;

/**
 * Makes the pool where it is missing. Safe to repeat.
 * @returns its directory, as LXD sees it
 * @throws SV_RUNTIME_UNSUPPORTED: somebody made a pool of this name with another driver
 */
export async function ensureRootPool(client: LxdClient, signal?: AbortSignal): Promise<string> {
  const found = (await findRootPool(client, signal)) ?? (await makePool(client, signal));
  const { driver, source } = await settled(client, found, signal);
  if (driver === 'dir' && source.startsWith('/')) return source;
  throw new ShiftvolError(
    'SV_RUNTIME_UNSUPPORTED',
    `Cannot use storage pool "${ROOT_POOL}": its driver is "${driver}", "dir" is accepted`,
    { remedy: `remove that pool, or rename it; shiftvol makes its own` },
  );
}

type Pool = ReturnType<typeof poolSource>;

/** One that another of our instances has just asked for has no place yet. */
async function settled(client: LxdClient, found: Pool, signal: AbortSignal | undefined): Promise<Pool> {
  let pool = found;
  for (let tries = 0; pool.driver === 'dir' && pool.source === '' && tries < PLACE_TRIES; tries++) {
    await sleep(PLACE_MS, undefined, { signal });
    pool = (await findRootPool(client, signal)) ?? pool;
  }
  return pool;
}
const PLACE_TRIES = 100;
const PLACE_MS = 50;

/** The directory that has to be there for LXD to start the container. `container`: with its project, as LXD names directories. */
export async function makeRootStub(root: string, pool: string, container: string): Promise<void> {
  const directory = join(root, pool, 'containers', container, 'rootfs');
  try {
    await mkdir(directory, { mode: 0o711 });
  } catch (error) {
    if (isNodeErrno(error, 'EEXIST')) return;
    throw new LxdError(0, `Cannot make "${directory}" for container "${container}"`, { cause: error });
  }
}

async function makePool(client: LxdClient, signal?: AbortSignal) {
  try {
    await client.change('POST', '/1.0/storage-pools', { body: { name: ROOT_POOL, driver: 'dir', config: {} }, signal });
  } catch (error) {
    // Another one of us was faster; or else the next look says that it is not there.
    if (!(error instanceof LxdError) || error.status === 0) throw error;
    const there = await findRootPool(client, signal);
    if (there) return there;
    throw new LxdError(error.status, `Cannot make the storage pool "${ROOT_POOL}"`, {
      remedy: `make it yourself, with driver dir (in a cluster on every member)`,
      cause: error,
    });
  }
  return poolSource((await client.get(POOL_PATH, signal)).metadata);
}

/** Undefined: it was not made yet. */
export async function findRootPool(client: LxdClient, signal?: AbortSignal) {
  try {
    return poolSource((await client.get(POOL_PATH, signal)).metadata);
  } catch (error) {
    if (error instanceof LxdError && error.status === 404) return undefined;
    throw error;
  }
}
