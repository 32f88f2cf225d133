/** A compute host: an LXD, a pool and ids of its own, the agent, and nova-compute beside it. */
import { chmodSync } from 'node:fs';
import type { Recovered } from '../../src/engine/recover.ts';
import type { AttachmentView } from '../../src/http/view.ts';
import { umount2 } from '../../src/kernel/mount.ts';
import { readMountinfo } from '../../src/mount/mountinfo.ts';
import { list } from '../e2e/ask.ts';
import { type Agent, makeWorld, type World } from '../e2e/world.ts';
import type { Cloud } from '../rig/cloud/cloud.ts';
import type { Lxd } from '../rig/lxd.ts';
import { freePort } from '../rig/ports.ts';
import { needSubids } from '../rig/subuid.ts';

/** The hosts' own ids do not overlap, so that an instance that moves gets other ones. The first is the rig's. */
const IDS: Readonly<Record<string, { readonly owner: string; readonly start: number; readonly count: number }>> = {
  node1: { owner: 'shiftvol', start: 1_048_576, count: 8_388_608 },
  // Never at the same time as node1.
  node3: { owner: 'shiftvol', start: 1_048_576, count: 8_388_608 },
  node2: { owner: 'shiftvol-2', start: 9_437_184, count: 655_360 },
};

export class ComputeHost implements AsyncDisposable {
  readonly name: string;
  readonly world: World;
  readonly ids: { readonly owner: string; readonly start: number; readonly count: number };
  readonly #config: object;
  #change: object = {};
  readonly #logs: string[] = [];
  #agent: Agent | undefined;
  #kept: AsyncDisposable | undefined;

  private constructor(name: string, world: World, ids: ComputeHost['ids'], config: object) {
    this.name = name;
    this.world = world;
    this.ids = ids;
    this.#config = config;
  }

  /** With its agent running. `change`: of its configuration. */
  static async make(cloud: Cloud, name: string, change: object = {}): Promise<ComputeHost> {
    const ids = IDS[name];
    if (ids === undefined) throw new Error(`there are no ids for host ${name}`);
    await using scope = new AsyncDisposableStack();
    scope.use(needSubids([`${ids.owner}:${ids.start}:${ids.count}`]));
    const world = scope.use(await makeWorld());
    chmodSync(world.dir, 0o711); // containers' own users walk through it to their root file system
    Object.assign(world.env, cloud.credentials, { SHIFTVOL_HOST: name });
    // The first host alone gives roots away.
    const migration = { listen: name === 'node1' ? `127.0.0.1:${await freePort()}` : null };
    const config = {
      subid_owner: ids.owner,
      rpc: { url: cloud.brokerUrl },
      nova: { enabled: true },
      migration,
      ...change,
    };
    const host = new ComputeHost(name, world, ids, config);
    scope.defer(() => host.stopAgent());
    await host.startAgent();
    host.#kept = scope.move();
    return host;
  }

  get lxd(): Lxd {
    return this.world.lxd;
  }

  async startAgent(): Promise<void> {
    this.#agent = await this.world.agent(JSON.stringify({ ...this.#config, ...this.#change }));
  }

  /** Runs not: nothing to do. */
  async stopAgent(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const agent = this.#agent;
    if (agent === undefined) return;
    this.#agent = undefined;
    await agent.kill(signal);
    this.#logs.push(agent.log());
  }

  /** Another configuration: the agent is started anew. Without a change the first one again. */
  async configure(change: object = {}): Promise<void> {
    await this.stopAgent();
    this.#change = change;
    await this.startAgent();
  }

  /** As a power cut leaves it, as far as one machine can play two: no agent, nothing runs, nothing is mounted; LXD and the journal know it all. */
  async crash(): Promise<void> {
    await this.stopAgent('SIGKILL');
    for (const name of await this.containers()) await this.lxd.stop(name);
    for (const { point } of this.mounts().toReversed()) umount2(point, { lazy: false });
  }

  async attachments(): Promise<readonly AttachmentView[]> {
    return await list(this.world);
  }

  async recover(): Promise<Recovered> {
    return (await this.ask('recover')) as Recovered; // what the engine answers
  }

  /** Of all agents that ran here. */
  log(): string {
    return [...this.#logs, this.#agent?.log() ?? ''].join('\n');
  }

  /** `list --json` and the like, through the agent's socket. */
  async ask(...args: readonly string[]): Promise<unknown> {
    const { code, stdout, stderr } = await this.world.cli('--json', ...args);
    if (code !== 0) throw new Error(`shiftvol ${args.join(' ')} on ${this.name}: ${stderr || stdout}`);
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? 'null');
  }

  /** Names of all there are in LXD, running or not. */
  async containers(): Promise<readonly string[]> {
    return (await this.lxd.api.list('/1.0/instances?recursion=1')).map(({ name }) => String(name));
  }

  /** Of all of them: `Running`, `Frozen`. */
  async containerStates(): Promise<readonly string[]> {
    return (await this.lxd.api.list('/1.0/instances?recursion=1')).map(({ status }) => String(status));
  }

  /** Mounts of ours, from the host's side. */
  mounts(): readonly { readonly point: string; readonly source: string; readonly fsType: string }[] {
    return readMountinfo('/proc').filter(m => m.point.startsWith(`${this.world.runDir}/`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#kept?.[Symbol.asyncDispose]();
  }
}
