/** A host on which instances are made: a private LXD, a pool with a busybox template, the engine, and the machines. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '../../../src/cli/assemble.ts';
import { LxdMachines } from '../../../src/container/lxd/machines.ts';
import { LxdRuntime } from '../../../src/container/lxd/runtime.ts';
import type { MachineSpec, StopOptions } from '../../../src/container/machines.ts';
import type { Engine } from '../../../src/engine/engine.ts';
import type { InstanceRef, SpawnCommand } from '../../../src/engine/model.ts';
import { rootsDir } from '../../../src/engine/plan.ts';
import type { Instance } from '../../../src/engine/ports.ts';
import { makeWorld, type World } from '../../e2e/world.ts';
import { makeRootfs } from '../../rig/busybox.ts';

export const never = new AbortController().signal;

export type MachineWorld = AsyncDisposable & {
  readonly world: World;
  readonly runtime: LxdRuntime;
  readonly machines: LxdMachines;
  readonly engine: Engine;
  /** As after a reboot of the agent: another engine on the same state directory. */
  restartEngine(): Promise<void>;
  /** Ids and a container. */
  create(name: string, options?: Partial<MachineSpec>): Promise<Instance>;
  /** Its root file system: the template, or what is given. */
  spawn(uuid: string, source?: SpawnSource): Promise<void>;
  /** All of it: create, spawn, start. */
  boot(name: string, options?: Partial<MachineSpec>): Promise<Instance>;
  /** All of it back: stop, destroy, remove. */
  unmake(uuid: string): Promise<void>;
};
type SpawnSource = Pick<Extract<SpawnCommand, { source: unknown }>, 'source'>;

/** `instance-00000001` has `00000000-0000-4000-8000-instance-00000001`'s digits. */
export function uuidFor(name: string): string {
  const digits = Buffer.from(name).toString('hex').slice(-12).padStart(12, '0');
  return `6f70a4a5-1c2b-4c5d-8e9f-${digits}`;
}

export const FORCED = { force: true, timeoutMs: 0 };

export async function makeMachineWorld(): Promise<MachineWorld> {
  await using scope = new AsyncDisposableStack();
  const world = scope.use(await makeWorld());
  // Containers' own users walk through it to their root file system.
  chmodSync(world.dir, 0o711);
  const rootfs = join(world.dir, 'busybox');
  mkdirSync(rootfs);
  await makeRootfs(rootfs);
  // What a map must carry over: setuid, another owner, a capability of a file.
  execFileSync(
    'sh',
    ['-ec', `cp bin/busybox bin/su-box; chmod 4755 bin/su-box; touch srv/of-33; chown 33:33 srv/of-33`],
    {
      cwd: rootfs,
    },
  );
  await world.addTemplate('busybox', { from: rootfs });
  const runtime = scope.use(new LxdRuntime({ configured: world.lxd.socketPath }));
  const machines = new LxdMachines(runtime, { rootsDir: rootsDir(world.runDir) });
  let host: Host = await world.engine();
  scope.defer(() => host[Symbol.asyncDispose]());
  const kept = scope.move();

  const self: MachineWorld = {
    world,
    runtime,
    machines,
    get engine() {
      return host.engine;
    },
    async restartEngine() {
      await host[Symbol.asyncDispose]();
      host = await world.engine();
    },
    async create(name, options = {}) {
      const uuid = options.uuid ?? uuidFor(name);
      const { uid: idRange } = await host.engine.reserveIds({ ref: uuid }, {}, false, never);
      const spec = { name, uuid, displayName: name, vcpus: 1, memoryMb: 128, networks: [], idRange, ...options };
      return await machines.create(spec, never);
    },
    async spawn(uuid, source = { source: { kind: 'template', template: 'busybox' } }) {
      await host.engine.execute({ action: 'spawn', instance: { ref: uuid }, ...source }, never);
    },
    async boot(name, options) {
      const instance = await self.create(name, options);
      await self.spawn(instance.key);
      await machines.start({ ref: instance.key }, never);
      return instance;
    },
    async unmake(uuid) {
      await machines.stop({ ref: uuid }, FORCED, never);
      await host.engine.execute({ action: 'destroy', instance: { ref: uuid }, lazy: false }, never);
      await machines.remove({ ref: uuid }, never);
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
  return self;
}

/** As a reboot does it. */
export async function restart({ machines }: Pick<MachineWorld, 'machines'>, ref: InstanceRef, options: StopOptions) {
  await machines.stop(ref, options, never);
  await machines.start(ref, never);
}
