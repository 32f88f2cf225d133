/** The real engine on directories of the bench's own. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assemble, type Host } from '../../src/cli/assemble.ts';
import { loadConfig } from '../../src/config/load.ts';
import { liveUserNamespaces } from '../../src/container/ranges/live.ts';
import { lxcContainers } from '../../src/container/ranges/lxc.ts';
import { Allocator } from '../../src/engine/allocator.ts';
import type { EngineDeps } from '../../src/engine/deps.ts';
import type { Engine } from '../../src/engine/engine.ts';
import type { InstanceKey, InstanceRef } from '../../src/engine/model.ts';
import type { Pool } from './pool.ts';
import type { Workspace } from './workspace.ts';

/** Ids that the bench gives to instances: above what distributions hand out. */
export const ID_POOL = { start: 1_000_000, count: 1_000 * 65_536 } as const;

export type BenchHost = Host & { readonly configFile: string; readonly runDir: string; readonly stateDir: string };

/**
 * An engine as the agent runs it. Without `lxdSocket` it has no runtime: its spawns name instances that nothing else knows, and what
 * is measured is shiftvol alone.
 */
export async function startHost(
  workspace: Workspace,
  pool: Pool,
  name: string,
  options: { readonly lxdSocket?: string; readonly parallel?: number; readonly more?: object } = {},
): Promise<BenchHost> {
  const paths = writeConfig(workspace, pool, name, options);
  const config = loadConfig({ config: paths.configFile }, {});
  const alone = (deps: EngineDeps): EngineDeps => ({ ...deps, runtimes: [], allocator: ownAllocator(deps) });
  const host = await assemble(config, {
    outbox: false,
    resident: true,
    ...(options.lxdSocket ? {} : { change: alone }),
  });
  return Object.assign(host, paths);
}

/** plugin.yaml and the directories of one agent. */
export function writeConfig(
  workspace: Workspace,
  { poolDir }: Pool,
  name: string,
  options: { readonly lxdSocket?: string; readonly parallel?: number; readonly more?: object } = {},
): { readonly configFile: string; readonly runDir: string; readonly stateDir: string } {
  const base = join(workspace.dir, name);
  mkdirSync(base, { mode: 0o711 });
  const [configFile, runDir, stateDir] = [join(base, 'plugin.yaml'), join(workspace.runDir, name), join(base, 'state')];
  const config = {
    host: 'bench',
    state_dir: stateDir,
    run_dir: runDir,
    pool_dir: poolDir,
    subid_owner: 'root',
    parallel: options.parallel ?? 8,
    runtimes: { lxd: { socket: options.lxdSocket ?? join(base, 'no-lxd.socket') } },
    ...options.more,
  };
  writeFileSync(configFile, JSON.stringify(config)); // which is YAML
  return { configFile, runDir, stateDir };
}

function ownAllocator({ journal }: EngineDeps): Allocator {
  return new Allocator({
    journal,
    pool: async () => ({ uid: [ID_POOL], gid: [ID_POOL] }),
    sources: [lxcContainers(), liveUserNamespaces()],
    rangeSize: 65_536,
  });
}

/**
 * Brings the journal to the state of one that has been in use for a while: its log has reached the size at which it is written over
 * from the start, so that a sync need not make the file grow as well (which takes twice as long).
 */
export async function wearIn({ store }: Host): Promise<void> {
  const instance = 'worn-in' as InstanceKey;
  const allocate = { instance, uid: ID_POOL, gid: ID_POOL, createdAt: new Date().toISOString() };
  for (let i = 0; i < 800; i++) store.record(i % 2 === 0 ? { allocate } : { release: instance });
  await store.flushed();
}

/** The ids of an instance are reserved when it is scheduled; what comes after is what a spawn waits for. */
export async function reserve(engine: Engine, instance: InstanceRef, signal: AbortSignal): Promise<void> {
  await engine.reserveIds(instance, {}, false, signal);
}
