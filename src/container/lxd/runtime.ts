import { dirname, join } from 'node:path';
import type { InstanceRef } from '../../engine/model.ts';
import type { Instance, Runtime, RuntimeDevice, UsedRange } from '../../engine/ports.ts';
import { addOnce, type Context, type NewDevice, type Place, removeOnce } from './change.ts';
import { type ClientOptions, LxdClient } from './client.ts';
import { type LxdEvent, lifecycleEvents } from './events.ts';
import { HOST, type Host, monitoredInit } from './init-pid.ts';
import { isHere, keyOf, liveIdmap, requireUsable, toInstance, volatileIdmaps } from './instance.ts';
import { type Look, Lookup } from './lookup.ts';
import { PATIENCE, type Patience, patiently } from './patience.ts';
import { initPid, type LxdInstance, type ServerFacts } from './wire.ts';

export type LxdOptions = ClientOptions & {
  /** Project in which an instance is looked for first. Default: `default`. */
  readonly project?: string;
  readonly patience?: Patience;
  /** Where /proc and the cgroups are. */
  readonly host?: Host;
};

/** LXD or Incus on this host, over its REST API. Holds one idle connection; nothing is asked before the first call. */
export class LxdRuntime implements Runtime, Disposable {
  readonly name = 'lxd';
  readonly client: LxdClient;
  readonly #lookup: Lookup;
  /** What `find` saw of the instances that it gave out. */
  readonly #looks = new WeakMap<Instance, Look>();
  readonly #patience: Patience;
  readonly #host: Host;
  /** The last change of each instance that is still under way. */
  readonly #changing = new Map<string, Promise<unknown>>();

  constructor({ project = 'default', patience = PATIENCE, host = HOST, ...options }: LxdOptions = {}) {
    this.client = new LxdClient(options);
    this.#lookup = new Lookup(this.client, project);
    this.#patience = patience;
    this.#host = host;
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
  }

  /** What answers on the socket, for `doctor`. @throws SV_RUNTIME: nothing does */
  server(signal?: AbortSignal): Promise<ServerFacts> {
    return this.client.server(signal);
  }

  /** @throws SV_INSTANCE_NOT_FOUND: it is on another member of the cluster; SV_USAGE: several projects have one of this name */
  async find(ref: InstanceRef, signal?: AbortSignal): Promise<Instance | undefined> {
    const found = await this.#lookup.find(ref, signal);
    if (!found) return undefined;
    requireUsable(found, await this.client.server(signal));
    const instance = toInstance(this.name, found, await this.#live(found, signal));
    const look = this.#lookup.look(found);
    if (look) this.#looks.set(instance, look);
    return instance;
  }

  async addDevice(instance: Instance, device: NewDevice, signal?: AbortSignal): Promise<void> {
    const add = (context: Context, look?: Look) => addOnce(context, instance, device, this.#rootOf(instance), look);
    await this.#change(instance, add, this.#looks.get(instance), signal);
  }

  async removeDevice(ref: InstanceRef, name: string, signal?: AbortSignal): Promise<void> {
    const places = await patiently(() => this.#placesOf(ref, name, signal), this.#patience, signal);
    for (const place of places) {
      const remove = (context: Context, look?: Look) => removeOnce(context, place, name, look);
      await this.#change(place, remove, this.#lookup.look(place), signal);
    }
  }

  async devices(prefix: string, signal?: AbortSignal): Promise<readonly RuntimeDevice[]> {
    const instances = await this.#all(signal);
    return instances.flatMap(instance =>
      Object.entries(instance.devices)
        .filter(([name]) => name.startsWith(prefix))
        .map(([device, { source = '', path = '' }]) => ({
          instance: keyOf(instance),
          project: instance.project,
          name: instance.name,
          device,
          hostPath: source,
          target: path,
        })),
    );
  }

  /** The next and the present map of every container, running or not. One that is not isolated has LXD's whole default range. */
  async usedRanges(signal?: AbortSignal): Promise<readonly UsedRange[]> {
    const [instances, { name: server }] = await Promise.all([this.#all(signal), this.client.server(signal)]);
    return instances.flatMap(instance => {
      const owner = `${server} container "${instance.name}"${instance.project === 'default' ? '' : ` in project "${instance.project}"`}`;
      const ranges = volatileIdmaps(instance)
        .flat()
        .map(({ kind, hostId, count }) => ({ kind, start: hostId, count, owner }));
      return [...new Map(ranges.map(range => [`${range.kind} ${range.start} ${range.count}`, range])).values()];
    });
  }

  /** Lifecycle events of this host's instances, until the signal aborts; goes on by itself after a restart of the server. */
  events(signal: AbortSignal): AsyncGenerator<LxdEvent> {
    return lifecycleEvents(this.client, signal);
  }

  /** Where the server keeps its containers, as it names it. */
  async dataDir(): Promise<string> {
    const dir = dirname(await this.client.socketPath());
    // Incus may have its socket in /run; its containers are where they always were.
    return dir === '/run/incus' ? '/var/lib/incus' : dir;
  }

  async #all(signal?: AbortSignal): Promise<readonly LxdInstance[]> {
    const [all, server] = await Promise.all([this.#lookup.all(signal), this.client.server(signal)]);
    return all.filter(instance => isHere(instance, server));
  }

  /** Where the device is to be removed: at the instance; where that has another name by now or is gone, wherever the device is. */
  async #placesOf(ref: InstanceRef, device: string, signal?: AbortSignal): Promise<readonly LxdInstance[]> {
    const found = await this.#lookup.find(ref, signal);
    if (found) return [found];
    return (await this.#all(signal)).filter(instance => device in instance.devices);
  }

  /** Where its files are seen from here: of a stopped one only if its root file system is ours. */
  #rootOf({ pid, rootPath }: Instance): string | undefined {
    return pid === undefined ? rootPath : `${this.#host.proc}/${pid}/root`;
  }

  async #live(found: LxdInstance, signal?: AbortSignal) {
    if (!found.running) return undefined;
    const pid = await this.#initPid(found, signal);
    const idmap = pid === undefined ? undefined : liveIdmap(this.#host.proc, pid);
    return pid === undefined || idmap === undefined ? undefined : { pid, idmap };
  }

  async #initPid({ project, name }: LxdInstance, signal?: AbortSignal): Promise<number | undefined> {
    const container = project === 'default' ? name : `${project}_${name}`;
    const pid = await monitoredInit(join(await this.dataDir(), 'containers'), container, this.#host);
    if (pid !== undefined) return pid;
    const path = `/1.0/instances/${encodeURIComponent(name)}/state?project=${encodeURIComponent(project)}`;
    return initPid((await this.client.get(path, signal)).metadata);
  }

  /**
   * One change of an instance at a time: of two at once LXD 5.0 refuses the second when the first is done, or takes both and keeps the
   * devices of one. Against other clients the ETag helps: the first try goes by what was seen, which saves a GET (3 ms).
   */
  async #change(
    place: Place,
    change: (context: Context, look?: Look) => Promise<void>,
    seen: Look | undefined,
    signal?: AbortSignal,
  ): Promise<void> {
    const key = `${place.project}/${place.name}`;
    const before = this.#changing.get(key) ?? Promise.resolve();
    const context = { client: this.client, signal };
    let look = this.#changing.has(key) ? undefined : seen;
    const attempt = async () => {
      const once = look;
      look = undefined;
      await change(context, once);
    };
    const mine = before.then(() => patiently(attempt, this.#patience, signal));
    const done = mine.then(
      () => {},
      () => {}, // the caller of that one has its error
    );
    this.#changing.set(key, done);
    try {
      await mine;
    } finally {
      if (this.#changing.get(key) === done) this.#changing.delete(key);
    }
  }
}
