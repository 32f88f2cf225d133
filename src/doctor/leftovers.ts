/** What looks ours by its name or place, and that the journal does not know. It is told, and never touched. */
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import type { LxdRuntime } from '../container/lxd/runtime.ts';
import { DEVICE_PREFIX, rootsDir, volumesDir } from '../engine/plan.ts';
import { loopsInUse, undeleted } from '../mount/loops.ts';
import { readMountinfo } from '../mount/mountinfo.ts';
import { poolImage } from '../storage/pool-status.ts';
import { attempt, type Check, good, warn } from './check.ts';
import type { Known } from './journal.ts';

export type LeftoverPlaces = { readonly runDir: string; readonly stateDir: string; readonly poolDir: string };

export async function leftoverChecks(places: LeftoverPlaces, known: readonly Known[]): Promise<Check[]> {
  return [
    await attempt('journal.stray-mounts', () => told('journal.stray-mounts', mounts(places.runDir, known)), {
      ok: 'warn',
    }),
    await attempt('journal.stray-loops', () => told('journal.stray-loops', loops(places, known)), { ok: 'warn' }),
    await attempt('journal.stray-snapshots', () => told('journal.stray-snapshots', snapshots(places.poolDir, known)), {
      ok: 'warn',
    }),
  ];
}

/** Devices with our prefix in the configuration of any instance. Asked only where the runtime answers. */
export async function deviceLeftovers(lxd: LxdRuntime, known: readonly Known[], signal: AbortSignal): Promise<Check> {
  return await attempt(
    'journal.stray-devices',
    async () => {
      const ours = new Set(known.map(k => `${DEVICE_PREFIX}${k.id}`));
      const stray = (await lxd.devices(DEVICE_PREFIX, signal)).filter(d => !ours.has(d.device));
      return told(
        'journal.stray-devices',
        stray.map(d => `${d.device} of ${d.project}/${d.name} at ${d.target}`),
      );
    },
    { ok: 'warn' },
  );
}

function told(check: Check['check'], stray: readonly string[]): Check {
  if (stray.length === 0) return good(check, 'none');
  return warn(
    check,
    `not in the journal: ${stray.join(', ')}`,
    'if another state directory of shiftvol has them, all is well; else look at them, and remove what is not wanted',
  );
}

/** Mounts, and directories for mounts, below the run directory. */
function mounts(runDir: string, known: readonly Known[]): string[] {
  const ours = new Set(known.map(k => k.hostPath));
  const places = [volumesDir(runDir), rootsDir(runDir)];
  const points = readMountinfo('/proc')
    .map(m => m.point)
    .filter(point => places.some(place => point.startsWith(`${place}/`)));
  const directories = places
    .filter(place => existsSync(place))
    .flatMap(place => readdirSync(place).map(name => join(place, name)));
  return [...new Set([...points, ...directories])].filter(path => !ours.has(path));
}

function loops({ stateDir, poolDir }: LeftoverPlaces, known: readonly Known[]): string[] {
  const real = (path: string) => (existsSync(path) ? realpathSync(path) : path);
  const ours = new Set([...known.map(k => real(k.image)), real(poolImage(stateDir))]);
  const pool = real(poolDir);
  return (
    loopsInUse('/sys')
      // Spares are of a running agent: its end takes them along.
      .filter(loop => !undeleted(loop).startsWith(`${pool}/spares/`))
      .filter(loop => undeleted(loop).startsWith(`${pool}/`) && !ours.has(undeleted(loop)))
      .map(loop => `${loop.path} of ${loop.backingFile}`)
  );
}

function snapshots(poolDir: string, known: readonly Known[]): string[] {
  const ours = new Set(known.map(k => k.image));
  const base = join(poolDir, 'snapshots');
  if (!existsSync(base)) return [];
  return readdirSync(base)
    .flatMap(template => readdirSync(join(base, template)).map(id => join(base, template, id)))
    .filter(path => !ours.has(path));
}
