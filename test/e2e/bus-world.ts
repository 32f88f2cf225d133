/** A host with a broker: a private RabbitMQ beside the private LXD, and the agent as a process of its own on both. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { ConfirmChannel } from 'amqplib';
import type { BusStatus } from '../../src/bus/service.ts';
import { socketPath } from '../../src/cli/engine-client.ts';
import { bodyOf, getAll, JSON_PROPERTIES, rawChannel, until } from '../integration/bus/helpers.ts';
import { makeRootfs } from '../rig/busybox.ts';
import type { Note } from '../rig/oslo/peers.ts';
import { type Rabbit, startRabbit } from '../rig/rabbit.ts';
import { list } from './ask.ts';
import { SECRET } from './notes.ts';
import { type Agent, makeWorld, type World } from './world.ts';

/** The image of the samples of `instance.create.*`. */
export const IMAGE = '155d900f-4e14-4e4c-a73d-069cbf4541e6';
const QUICK = { rebind_ms: 100, reconnect: { min_ms: 200, max_ms: 1000 }, retry: { delay_ms: 300, attempts: 3 } };
const BINDINGS = {
  images: [
    { image: IMAGE, template: 'busybox' },
    { image: '*', template: '{image_uuid}' },
  ],
  volumes: [{ volume: '*', template: 'web' }],
};

/** A result as it was told on the bus. */
export type Told = {
  readonly event_type: string;
  readonly message_id: string;
  readonly publisher_id: string;
  readonly _context_request_id: string | null;
  readonly payload: Readonly<Record<string, unknown>>;
};

export class BusWorld implements AsyncDisposable {
  readonly world: World;
  readonly rabbit: Rabbit;
  readonly #durable: boolean;
  readonly #agents: Agent[] = [];
  readonly #told = new Map<string, Told>();
  #raw: Awaited<ReturnType<typeof rawChannel>> | undefined;

  private constructor(world: World, rabbit: Rabbit, durable: boolean) {
    this.world = world;
    this.rabbit = rabbit;
    this.#durable = durable;
  }

  /** Templates `web` (a volume) and `busybox` (a root file system). `durable`: how the services' exchanges are made. */
  static async make(options: { durable: boolean }): Promise<BusWorld> {
    await using scope = new AsyncDisposableStack();
    const [rabbit, world] = await Promise.all([startRabbit(), makeWorld()]);
    scope.use(rabbit);
    scope.use(world);
    await world.addTemplate('web', { files: 20 });
    const rootfs = join(world.dir, 'rootfs');
    mkdirSync(rootfs);
    await makeRootfs(rootfs);
    await world.addTemplate('busybox', { from: rootfs });
    const bus = new BusWorld(world, rabbit, options.durable);
    scope.defer(() => bus.#closeChannel());
    await bus.declareExchanges();
    scope.move();
    return bus;
  }

  /** As the services do when they start. */
  async declareExchanges(): Promise<void> {
    const channel = await this.channel();
    for (const name of ['nova', 'openstack']) await channel.assertExchange(name, 'topic', { durable: this.#durable });
  }

  /** A channel of the test's own; a new one after the broker was away. */
  async channel(): Promise<ConfirmChannel> {
    this.#raw ??= await rawChannel(this.rabbit.url);
    return this.#raw.channel;
  }

  async #closeChannel(): Promise<void> {
    await this.#raw?.[Symbol.asyncDispose]();
    this.#raw = undefined;
  }

  async stopRabbit(): Promise<void> {
    await this.#closeChannel();
    await this.rabbit.stop();
  }

  /** `shiftvol serve`, on a configuration of its own (JSON is YAML). `wait`: until it is subscribed and bound. `program`: see World. */
  async serve(
    bus: object = {},
    { wait = true, program }: { readonly wait?: boolean; readonly program?: readonly string[] } = {},
  ): Promise<Agent> {
    const exchanges = ['nova', 'openstack'].map(exchange => ({
      exchange,
      topics: ['versioned_notifications', 'notifications'],
    }));
    const events = { durable: this.#durable, queue: 'results' };
    const config = { bus: { listen: [this.rabbit.url], exchanges, events, ...QUICK, ...bus }, bindings: BINDINGS };
    const agent = await this.world.agent(JSON.stringify(config), program);
    this.#agents.push(agent);
    if (wait) await this.listening();
    return agent;
  }

  async listening(): Promise<void> {
    await until('the agent listens', async () => {
      const { healthy, listen } = await this.health();
      return healthy && listen.every(l => Object.values(l.exchanges).every(state => state === 'bound'));
    });
  }

  /** `GET /v1/health`. */
  async health(): Promise<BusStatus> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const asked = request({ socketPath: socketPath(this.world.runDir), path: '/v1/health', agent: false }, response => {
      text(response).then(resolve, reject);
    });
    asked.once('error', reject).end();
    return JSON.parse(await promise).result.bus;
  }

  /** What the agent has made of messages since its start. */
  async counters(): Promise<BusStatus['listen'][number]['counters']> {
    const [listen] = (await this.health()).listen;
    assert.ok(listen);
    return listen.counters;
  }

  /** Past oslo.messaging, byte by byte. Resolves when the broker has it. */
  async publish(...bodies: readonly (Note | Buffer | string)[]): Promise<void> {
    const channel = await this.channel();
    for (const body of bodies) {
      const content = typeof body === 'string' || Buffer.isBuffer(body) ? Buffer.from(body) : bodyOf(body);
      channel.publish('nova', 'notifications.info', content, JSON_PROPERTIES);
    }
    await channel.waitForConfirms();
  }

  /** All results so far, each once: the agent may tell one twice, under the same message id. */
  async told(): Promise<readonly Told[]> {
    for (const { content } of await getAll(await this.channel(), 'results')) {
      const inner: Told = JSON.parse(JSON.parse(content.toString())['oslo.message']);
      this.#told.set(inner.message_id, inner);
    }
    return [...this.#told.values()];
  }

  /** The names of what was told for one request, without "shiftvol.": `attach.start`, `attach.end`. */
  async toldOf(request: string): Promise<readonly string[]> {
    return (await this.told())
      .filter(told => told._context_request_id === request)
      .map(told => told.event_type.slice('shiftvol.'.length));
  }

  async untilTold(request: string, event: string, timeoutMs?: number): Promise<void> {
    await until(`${event} of ${request}`, async () => (await this.toldOf(request)).includes(event), timeoutMs);
  }

  async untilAttached(count: number): Promise<void> {
    const attached = async () => (await list(this.world)).filter(a => a.state === 'attached').length;
    await until(`${count} attached`, async () => (await attached()) === count);
  }

  async depth(queue = 'shiftvol.node1'): Promise<number> {
    return (await (await this.channel()).checkQueue(queue)).messageCount;
  }

  /** Nothing secret in what any agent wrote, in what was told, or in the journal. */
  async assertNoSecret(): Promise<void> {
    const { stateDir } = this.world;
    const journal = readdirSync(stateDir).filter(name => name.startsWith('journal.db'));
    const places = [
      ...this.#agents.map((agent, i) => [`log of agent ${i}`, agent.log()] as const),
      ['results', JSON.stringify(await this.told())] as const,
      ...journal.map(name => [name, readFileSync(join(stateDir, name), 'latin1')] as const),
    ];
    assert.ok(this.#agents.every(agent => agent.log().length > 0) && journal.length > 0);
    for (const [place, content] of places)
      for (const secret of [SECRET, 'guest:guest']) assert.ok(!content.includes(secret), `${secret} in ${place}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents) await agent[Symbol.asyncDispose]();
    await this.#closeChannel();
    await this.rabbit[Symbol.asyncDispose]();
    await this.world[Symbol.asyncDispose]();
  }
}

/** An instance's uuid that stays the same over runs. */
export function uuidOf(name: string): string {
  const hex = createHash('sha256').update(name).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
