import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { InstanceRef } from '../../engine/model.ts';
import type { Instance } from '../../engine/ports.ts';
import { ShiftvolError } from '../../errors.ts';
import { statxIfThere } from '../../kernel/statx.ts';
import type {
  Diagnostics,
  Machine,
  MachineChange,
  MachineSpec,
  Machines,
  PowerState,
  StopOptions,
} from '../machines.ts';
import { readConsole } from './console.ts';
import { readDiagnostics } from './diagnostics.ts';
import { isHere, uuidOf } from './instance.ts';
import { instancePath, Lookup } from './lookup.ts';
import { LxdError } from './lxd-error.ts';
import { flavorChange, instanceOf, label, limitsOf, MADE_KEY, rootPathOf } from './machine-config.ts';
import { clash, exists, notFound, requireOurs, requireRoot, requireState } from './machine-refuse.ts';
import { type Action, changeState, explainStart, powerOf, resource } from './machine-state.ts';
import { mountsBelow } from './mounts-below.ts';
import { PATIENCE, type Patience, patiently } from './patience.ts';
import { ensureRootPool, makeRootStub, ROOT_POOL } from './root-pool.ts';
import type { LxdRuntime } from './runtime.ts';
import { type LxdInstance, lxdInstance } from './wire.ts';

export type LxdMachinesOptions = {
  /** Where root file systems are mounted: searchable for everybody, since LXC opens them from inside the user namespace. */
  readonly rootsDir: string;
  /** In which they are made. Default: `default`. */
  readonly project?: string;
  readonly patience?: Patience;
  readonly proc?: string;
};

/** Containers of LXD or Incus whose root file system is a mount of ours. */
export class LxdMachines implements Machines {
  readonly #runtime: LxdRuntime;
  readonly #options: Required<LxdMachinesOptions>;
  readonly #lookup: Lookup;

  constructor(runtime: LxdRuntime, options: LxdMachinesOptions) {
    this.#runtime = runtime;
    this.#options = { project: 'default', patience: PATIENCE, proc: '/proc', ...options };
    this.#lookup = new Lookup(runtime.client, this.#options.project);
  }

  async create(spec: MachineSpec, signal: AbortSignal): Promise<Instance> {
    // The name is a secret: every directory above it must be searchable by the container's own ids.
    const rootPath = spec.rootPath ?? join(this.#options.rootsDir, randomBytes(16).toString('hex'));
    const body = instanceOf(spec, rootPath, ROOT_POOL);
    const { client } = this.#runtime;
    const pool = await this.#patiently(() => ensureRootPool(client, signal), signal);
    const isNew = await this.#patiently(() => this.#makeOnce(spec, body, signal), signal);
    const lxdRoot = await this.#lxdRoot(signal);
    const directory = directoryName(this.#options.project, spec.name);
    await this.#patiently(() => makeRootStub(lxdRoot, pool, directory), signal);
    await this.#requireAlone(spec, isNew, signal);
    const made = await this.#runtime.find({ ref: spec.name, project: this.#options.project }, signal);
    if (made) return made;
    throw notFound({ ref: spec.uuid });
  }

  async start(ref: InstanceRef, signal: AbortSignal): Promise<void> {
    const instance = await this.#get(ref, signal);
    const state = powerOf(instance.status);
    if (state === 'paused') await this.#bring(instance, { action: 'unfreeze' }, 'running', signal);
    if (state === 'paused' || state === 'running') return;
    requireRoot(instance);
    try {
      await this.#bring(instance, { action: 'start' }, 'running', signal);
    } catch (error) {
      if (!(error instanceof LxdError) || error.status === 0) throw error;
      throw await explainStart(this.#runtime.client, instance, error, signal);
    }
  }

  async stop(ref: InstanceRef, { timeoutMs, force }: StopOptions, signal: AbortSignal): Promise<void> {
    const instance = await this.#get(ref, signal);
    const state = powerOf(instance.status);
    if (state === 'stopped') return;
    if (!force && timeoutMs > 0 && state !== 'crashed') {
      // A frozen init hears nothing.
      if (state === 'paused') await this.#bring(instance, { action: 'unfreeze' }, 'running', signal);
      try {
        return await this.#bring(instance, { action: 'stop', timeoutMs }, 'stopped', signal);
      } catch (error) {
        if (!(error instanceof LxdError) || error.status === 0) throw error;
        // It did not end in its time.
      }
    }
    await this.#bring(instance, { action: 'stop' }, 'stopped', signal);
  }

  async freeze(ref: InstanceRef, signal: AbortSignal): Promise<void> {
    const instance = await this.#get(ref, signal);
    if (powerOf(instance.status) === 'paused') return;
    requireState(instance, 'pause', 'running');
    await this.#bring(instance, { action: 'freeze' }, 'paused', signal);
  }

  async unfreeze(ref: InstanceRef, signal: AbortSignal): Promise<void> {
    const instance = await this.#get(ref, signal);
    if (powerOf(instance.status) === 'running') return;
    requireState(instance, 'unpause', 'paused');
    await this.#bring(instance, { action: 'unfreeze' }, 'running', signal);
  }

  async remove(ref: InstanceRef, signal: AbortSignal): Promise<void> {
    const instance = await this.#find(ref, signal);
    if (!instance) return;
    requireOurs(instance);
    await this.#requireRemovable(instance, signal);
    await this.#patiently(() => this.#deleteOnce(instance, signal), signal);
  }

  async power(ref: InstanceRef, signal: AbortSignal): Promise<PowerState | undefined> {
    const instance = await this.#find(ref, signal);
    return instance && powerOf(instance.status);
  }

  async list(signal: AbortSignal): Promise<readonly Machine[]> {
    const instances = await this.#all(signal);
    return instances.flatMap(instance => {
      const { name, description: displayName, status, config } = instance;
      const uuid = uuidOf(instance);
      if (config[MADE_KEY] === undefined || uuid === undefined) return [];
      const vcpus = Number.parseInt(config['limits.cpu'] ?? '0', 10);
      const memoryMb = Number.parseInt(config['limits.memory'] ?? '0', 10);
      return [{ name, uuid, displayName, state: powerOf(status), vcpus, memoryMb }];
    });
  }

  async console(ref: InstanceRef, { maxBytes }: { readonly maxBytes: number }, signal: AbortSignal): Promise<string> {
    const instance = await this.#get(ref, signal);
    const root = await this.#lxdRoot(signal);
    return await this.#patiently(() => readConsole(this.#runtime.client, root, instance, maxBytes, signal), signal);
  }

  async diagnostics(ref: InstanceRef, signal: AbortSignal): Promise<Diagnostics> {
    const { project, name } = await this.#get(ref, signal);
    const { metadata } = await this.#runtime.client.get(resource(project, name, 'state'), signal);
    return readDiagnostics(metadata, this.#options.proc);
  }

  async update(ref: InstanceRef, change: MachineChange, signal: AbortSignal): Promise<void> {
    const config = { ...limitsOf(change), ...(change.config && flavorChange(change.config)) };
    const { displayName } = change;
    const wanted = displayName === undefined ? undefined : label(displayName);
    const instance = await this.#get(ref, signal);
    requireOurs(instance);
    await this.#patiently(async () => {
      const { metadata, etag } = await this.#runtime.client.get(instancePath(instance.project, instance.name), signal);
      // LXD takes a PATCH without a description as one that empties it.
      const body = { description: wanted ?? lxdInstance(metadata).description, config };
      await this.#runtime.client.change('PATCH', instancePath(instance.project, instance.name), { body, etag, signal });
    }, signal);
  }

  /** @returns whether it was made just now. @throws SV_INSTANCE_EXISTS */
  async #makeOnce(spec: MachineSpec, body: ReturnType<typeof instanceOf>, signal: AbortSignal): Promise<boolean> {
    const { project } = this.#options;
    if (await this.#isMade(spec, signal)) return false;
    const path = `/1.0/instances?project=${encodeURIComponent(project)}`;
    try {
      await this.#runtime.client.change('POST', path, { body, signal });
    } catch (error) {
      // Another maker of the same instance was faster; LXD says that in several ways, depending on how far that one is.
      if (!(error instanceof LxdError) || error.status === 0 || !(await this.#isMade(spec, signal))) throw error;
      return false;
    }
    return true;
  }

  /** @throws SV_INSTANCE_EXISTS: the name is another's */
  async #isMade(spec: MachineSpec, signal: AbortSignal): Promise<boolean> {
    const there = await this.#lookup.find({ ref: spec.name, project: this.#options.project }, signal);
    if (!there) return false;
    if (uuidOf(there) === spec.uuid && there.config[MADE_KEY] !== undefined) return true;
    throw exists(spec, there);
  }

  /** LXD refuses neither a second container with this uuid nor one with these ids. Asked afterwards, so that of two at once one sees it. */
  async #requireAlone(spec: MachineSpec, isNew: boolean, signal: AbortSignal): Promise<void> {
    const { project } = this.#options;
    const all = await this.#lookup.all(signal);
    const others = all.filter(i => i.name !== spec.name || i.project !== project);
    const problem = others.map(other => clash(spec, other)).find(error => error !== undefined);
    if (!problem) return;
    const mine = all.find(i => i.name === spec.name && i.project === project);
    if (isNew && mine) await this.#patiently(() => this.#deleteOnce(mine, signal), signal);
    throw problem;
  }

  /** Does it again while LXD is busy with the instance; that it is in this state already is success. */
  async #bring(
    { project, name }: LxdInstance,
    change: { readonly action: Action; readonly timeoutMs?: number },
    wanted: PowerState,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#patiently(async () => {
      const now = await this.#get({ ref: name, project }, signal);
      if (powerOf(now.status) === wanted) return;
      try {
        await changeState(this.#runtime.client, now, change, signal);
      } catch (error) {
        if (!(error instanceof LxdError)) throw error;
        const after = await this.#find({ ref: name, project }, signal);
        if (after === undefined || powerOf(after.status) !== wanted) throw error;
      }
    }, signal);
  }

  /** LXD deletes all that it finds in these places, through mounts too. */
  async #requireRemovable(instance: LxdInstance, signal: AbortSignal): Promise<void> {
    const { project, name } = instance;
    const busy = (what: string, remedy: string) =>
      new ShiftvolError('SV_BUSY', `Cannot remove instance "${name}": ${what}`, { remedy });
    if (instance.running) throw busy(`it is ${powerOf(instance.status)}`, 'stop it first');
    const rootPath = rootPathOf(instance.config);
    if (rootPath !== undefined && statxIfThere(rootPath)?.mountRoot)
      throw busy(`its root file system is mounted at "${rootPath}"`, `run "shiftvol destroy ${name}" first`);
    const pid = await this.#runtime.client.serverPid(signal);
    const directory = directoryName(project, name);
    const pool = await ensureRootPool(this.#runtime.client, signal);
    const lxd = await this.#runtime.dataDir();
    const places = [
      join(pool, 'containers', directory),
      join(lxd, 'containers', directory),
      join(lxd, 'devices', directory),
    ];
    const [mounted] = await mountsBelow(this.#options.proc, pid === 0 ? ['self'] : ['self', pid], places);
    if (mounted !== undefined)
      throw busy(`"${mounted}" is mounted, and would be deleted with it`, 'unmount that first');
  }

  async #deleteOnce({ project, name }: LxdInstance, signal: AbortSignal): Promise<void> {
    try {
      await this.#runtime.client.change('DELETE', instancePath(project, name), { signal });
    } catch (error) {
      if (!(error instanceof LxdError) || error.status !== 404) throw error;
    }
  }

  /** Paths of LXD's seen as it sees them: as a snap it has a mount namespace of its own. */
  async #lxdRoot(signal: AbortSignal): Promise<string> {
    const pid = await this.#runtime.client.serverPid(signal);
    return pid === 0 ? '/' : join(this.#options.proc, String(pid), 'root');
  }

  async #all(signal: AbortSignal): Promise<readonly LxdInstance[]> {
    const [all, server] = await this.#patiently(
      () => Promise.all([this.#lookup.all(signal), this.#runtime.client.server(signal)]),
      signal,
    );
    return all.filter(instance => isHere(instance, server));
  }

  #find(ref: InstanceRef, signal: AbortSignal): Promise<LxdInstance | undefined> {
    return this.#patiently(() => this.#lookup.find(ref, signal), signal);
  }

  async #get(ref: InstanceRef, signal: AbortSignal): Promise<LxdInstance> {
    const instance = await this.#find(ref, signal);
    if (instance) return instance;
    throw notFound(ref);
  }

  #patiently<T>(attempt: () => Promise<T>, signal: AbortSignal): Promise<T> {
    return patiently(attempt, this.#options.patience, signal);
  }
}

function directoryName(project: string, name: string): string {
  return project === 'default' ? name : `${project}_${name}`;
}
