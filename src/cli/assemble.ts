/** Puts the engine of this host together: the one place that names every concrete part. */
import { chmodSync, mkdirSync } from 'node:fs';
import type { Config } from '../config/schema.ts';
import { LxdRuntime } from '../container/lxd/runtime.ts';
import { liveUserNamespaces } from '../container/ranges/live.ts';
import { lxcContainers } from '../container/ranges/lxc.ts';
import { readSubidPool } from '../container/ranges/subid-files.ts';
import { Allocator, type IdPool } from '../engine/allocator.ts';
import type { EngineDeps } from '../engine/deps.ts';
import { Engine } from '../engine/engine.ts';
import { rootsDir, volumesDir } from '../engine/plan.ts';
import { Spares } from '../engine/spares.ts';
import type { Connections } from '../engine/volume-ports.ts';
import { explain, ShiftvolError } from '../errors.ts';
import { intersect } from '../idmap/range.ts';
import type { Log } from '../log/log.ts';
import { KernelMounter } from '../mount/mounter.ts';
import { makeConnections } from '../storage/connect/connections.ts';
import { keysInDirectory } from '../storage/connect/keys.ts';
import { freezer } from '../storage/freezer.ts';
import { ensurePool } from '../storage/pool.ts';
import { reflinkBackend } from '../storage/reflink.ts';
import { savedImages } from '../storage/saved.ts';
import { volumeCopier } from '../storage/volume-copier.ts';
import { Store } from '../store/journal.ts';
import { cinderParts, keysOf } from './cinder.ts';
import { LOCK_TIMEOUT_MS } from './engine-client.ts';
import { LazyCloud } from './lazy-cloud.ts';

export type Host = AsyncDisposable & {
  readonly engine: Engine;
  readonly store: Store;
  readonly lxd: LxdRuntime;
  /** One session, for all that asks a service of OpenStack. */
  readonly cloud: LazyCloud;
  readonly spares: Spares | undefined;
  /** Does beforehand what the first command would wait for: modules, the runtime's connection. Never fails. */
  warm(signal: AbortSignal): Promise<void>;
};

export type AssembleOptions = {
  /** Keep events for the bus. */
  readonly outbox: boolean;
  /** For a process that lives long. */
  readonly resident?: boolean;
  readonly log?: Log | undefined;
  readonly change?: (deps: EngineDeps) => EngineDeps;
};

/**
 * Takes the state directory (one engine at a time), mounts the pool again if a reboot took it, makes the directories.
 * @throws SV_LOCKED: another shiftvol has it
 */
export async function assemble(config: Config, options: AssembleOptions): Promise<Host> {
  const { stateDir, runDir, poolDir, host, parallel } = config;
  await using resources = new AsyncDisposableStack();
  const store = resources.use(new Store({ stateDir, lockTimeoutMs: LOCK_TIMEOUT_MS, outbox: options.outbox }));
  makeDirectories(runDir);
  await ensurePool({ stateDir, poolDir });
  const { socket, project } = config.runtimes.lxd;
  const lxd = resources.use(new LxdRuntime({ project, ...(socket !== null && { configured: socket }) }));
  const mounter = resources.use(new KernelMounter({ warm: options.resident ?? false }));
  const runtimes = [lxd];
  const allocator = new Allocator({
    journal: store,
    pool: () => readPool(config.subidOwner),
    sources: [...runtimes, lxcContainers(), liveUserNamespaces()],
    rangeSize: config.idRangeSize,
  });
  const cloud = resources.use(new LazyCloud(config, options.log));
  const backend = reflinkBackend({ poolDir });
  const spares =
    options.resident === true && config.spares > 0
      ? resources.use(sparesOf(config.spares, { backend, mounter }, options.log))
      : undefined;
  const deps: EngineDeps = {
    host,
    runDir,
    parallel,
    freezeDeadlineMs: config.freezeDeadlineMs,
    copyFreezeMs: config.volumes.copyFreezeMs,
    journal: store,
    backend,
    ...cinderParts(config, connectionsOf(config, cloud), cloud, options.log),
    saved: savedImages({ poolDir }),
    freezer: freezer(),
    copier: volumeCopier,
    mounter,
    runtimes,
    allocator,
    ...(spares && { spares }),
  };
  const engine = new Engine(options.change?.(deps) ?? deps);
  const kept = resources.move();
  return {
    engine,
    store,
    lxd,
    cloud,
    spares,
    warm: async signal => void (await Promise.allSettled([lxd.server(signal)])),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** A full pool, for one, fails each time: it is told once in a while. */
function sparesOf(count: number, parts: Pick<EngineDeps, 'backend' | 'mounter'>, log: Log | undefined): Spares {
  let toldAt = Number.NEGATIVE_INFINITY;
  return new Spares({
    ...parts,
    count,
    onError: (error, template) => {
      if (performance.now() - toldAt < SPARES_TOLD_MS) return;
      toldAt = performance.now();
      log?.warn(`a spare snapshot of template "${template}" failed, attaches do without: ${explain(error)}`);
    },
  });
}
const SPARES_TOLD_MS = 60_000;

function connectionsOf({ runDir, volumes }: Config, cloud: LazyCloud): Connections {
  const { makeFilesystem, multipath, keysDir, localPaths } = volumes;
  const keys = [...(keysDir === null ? [] : [keysInDirectory(keysDir)]), keysOf(cloud)];
  return makeConnections({ runDir, multipath, localPaths, makeFilesystem, keys });
}

/**
 * Volumes are root's alone; the way to a root file system must be searchable, since LXC opens it from inside the user namespace.
 * A run directory that was there before keeps its mode: it may be somebody's.
 */
function makeDirectories(runDir: string): void {
  mkdirSync(runDir, { recursive: true, mode: 0o711 });
  for (const [path, mode] of [
    [volumesDir(runDir), 0o700],
    [rootsDir(runDir), 0o711],
  ] as const) {
    mkdirSync(path, { recursive: true, mode });
    chmodSync(path, mode);
  }
}

/**
 * Our entry of /etc/subuid and /etc/subgid, less what the runtime could not use: LXD takes a base only from root's entry.
 * @throws SV_HOST: no entry, or nothing in common with root's
 */
export async function readPool(owner: string): Promise<IdPool> {
  const [ours, root] = await Promise.all([readSubidPool(owner), readSubidPool('root')]);
  const limit = (mine: IdPool['uid'], theirs: IdPool['uid']) => (theirs.length === 0 ? mine : intersect(mine, theirs));
  const pool = { uid: limit(ours.uid, root.uid), gid: limit(ours.gid, root.gid) };
  if (pool.uid.length > 0 && pool.gid.length > 0) return pool;
  const missing = ours.uid.length === 0 || ours.gid.length === 0;
  throw new ShiftvolError(
    'SV_HOST',
    missing
      ? `Cannot give ids to an instance: "${owner}" has no entry in /etc/subuid and /etc/subgid`
      : `Cannot give ids to an instance: the ids of "${owner}" in /etc/subuid and /etc/subgid are not among root's, from which the runtime takes them`,
    {
      remedy: `add the same line for "${owner}" and for root to both files, for example "${owner}:1000000:1000000000" and "root:1000000:1000000000"`,
    },
  );
}
