/** dm-multipath: one device for all paths to a unit. */
import { existsSync } from 'node:fs';
import type { Connection } from '../../engine/model.ts';
import { ShiftvolError } from '../../errors.ts';
import { runTool } from '../tool.ts';
import { stillUsed } from './connector.ts';
import { isReady } from './ready.ts';
import { nameOf, type ScsiDevice } from './scsi.ts';
import { mapperOf } from './sysfs.ts';
import { waitFor, waitUntil } from './wait.ts';

const MAP_MS = 60_000;
const GONE_MS = 20_000;
const MULTIPATHD = ['/run/multipathd.pid', '/var/run/multipathd.pid'] as const;

export type Multipath = NonNullable<ReturnType<typeof mapperOf>>;

/** Whoever set it up: multipathd takes a device as soon as it sees it. */
export function multipathOf(sysRoot: string, { path }: ScsiDevice): Multipath | undefined {
  return mapperOf(sysRoot, { on: path, uuid: 'mpath-' });
}

/** Every path becomes one of the map. @throws SV_HOST: multipathd does not run */
export async function joinMultipath(
  sysRoot: string,
  connection: Connection,
  devices: readonly ScsiDevice[],
  signal: AbortSignal | undefined,
): Promise<void> {
  if (!MULTIPATHD.some(path => existsSync(path)))
    throw new ShiftvolError(
      'SV_HOST',
      `Cannot use several paths to volume "${connection.name}": multipathd does not run`,
      {
        remedy: 'start it, or set volumes.multipath to false',
      },
    );
  for (const device of devices)
    if (multipathOf(sysRoot, device) === undefined)
      await runTool('multipathd', ['add', 'path', nameOf(device)], { signal, accept: [0, 1] });
  const what = `a multipath device of volume "${connection.name}"`;
  const map = await waitFor(() => sameMap(sysRoot, devices), { timeoutMs: MAP_MS, signal, what });
  await waitFor(async () => (await isReady(sysRoot, map.device)) || undefined, { timeoutMs: MAP_MS, signal, what });
}

function sameMap(sysRoot: string, devices: readonly ScsiDevice[]): Multipath | undefined {
  const maps = devices.map(device => multipathOf(sysRoot, device));
  const [first] = maps;
  return first && maps.every(map => map?.device === first.device) ? first : undefined;
}

/** Writes what is queued and takes the map away. None is success. */
export async function flushMultipath(
  sysRoot: string,
  connection: Connection,
  devices: readonly ScsiDevice[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const [first] = devices;
  const map = first && multipathOf(sysRoot, first);
  if (map === undefined) return;
  // Whoever looks at a device that was just let go of, udev's blkid above all, holds it for a moment.
  const flush = async (): Promise<boolean> => {
    await runTool('multipath', ['-f', map.name], { signal, accept: [0, 1] });
    return mapperOf(sysRoot, { name: map.name, uuid: 'mpath-' }) === undefined;
  };
  const gone = await waitUntil(flush, GONE_MS, signal);
  if (!gone) throw stillUsed(connection, `its multipath device ${map.device} does not go`);
}

export async function resizeMultipath(
  sysRoot: string,
  devices: readonly ScsiDevice[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const [first] = devices;
  const map = first && multipathOf(sysRoot, first);
  if (map) await runTool('multipathd', ['resize', 'map', map.name], { signal });
}
