/** Routers between real exchanges and real agents' queues, on a real RabbitMQ. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Router } from '../../../src/bus/router.ts';
import type { Config } from '../../../src/config/schema.ts';
import { type Rabbit, startRabbit } from '../../rig/rabbit.ts';
import { attachNote, bodyOf, configFor, getAll, rawChannel, startBus, until } from './helpers.ts';

const PROGRAM = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const silent = { info() {}, warn() {}, error() {}, debug() {} };
let rabbit: Rabbit;
before(async () => {
  rabbit = await startRabbit();
});
after(() => rabbit[Symbol.asyncDispose]());

/** An agent that hears a router, and what it was asked to do. */
function agent(host: string) {
  const config: Config = { ...configFor(rabbit.url, { source: 'router' }), host };
  const handled: string[] = [];
  const bus = startBus(config, async command => {
    handled.push(command.instance.ref);
  });
  return { bus, handled, [Symbol.asyncDispose]: () => bus[Symbol.asyncDispose]() };
}

async function services(exchange = 'nova') {
  const raw = await rawChannel(rabbit.url);
  await raw.channel.assertExchange(exchange, 'topic', { durable: false });
  const tell = (n: number, host: string) =>
    raw.channel.publish('nova', 'versioned_notifications.info', bodyOf(attachNote(n, host)), {
      contentType: 'application/json',
      contentEncoding: 'utf-8',
    });
  return { ...raw, tell };
}

test('each agent gets what is for its host, in order, and nothing else', async () => {
  await using nova = await services();
  await using one = agent('node1');
  await using long = agent('node1.example.org');
  await using router = new Router(configFor(rabbit.url), silent);
  await until(
    'all are subscribed',
    () => router.status.healthy && one.bus.status.subscribed && long.bus.status.subscribed,
  );
  await until('the router hears Nova', () => router.status.listen[0]?.exchanges['nova'] === 'bound');
  await until('agents are bound', () => long.bus.status.exchanges['shiftvol.route'] === 'bound');
  for (let n = 0; n < 100; n++) nova.tell(n, ['node1', 'node1.example.org', 'elsewhere'][n % 3] ?? '');
  nova.channel.publish('nova', 'versioned_notifications.info', Buffer.from('{'));
  await nova.channel.waitForConfirms();
  await until('all is done', () => one.handled.length === 34 && long.handled.length === 33);
  assert.deepEqual(one.handled, one.handled.toSorted());
  await until('all is counted', () => router.status.listen[0]?.counters.dead === 1);
  const counters = router.status.listen[0]?.counters;
  assert.equal(counters?.received, 101);
  assert.equal(counters?.routed, 67);
  assert.equal(counters?.unrouted, 33);
  // A host reads its own alone.
  assert.equal(one.bus.status.counters.received, 34);
  const dead = await getAll(nova.channel, 'shiftvol.dead');
  assert.deepEqual(
    dead.map(m => m.properties.headers?.['x-shiftvol-queue']),
    ['shiftvol.router'],
  );
});

test('of two routers each gets a part, and one that is killed in the middle loses nothing', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'shiftvol-route-'));
  const children: ChildProcess[] = [];
  try {
    await writeFile(
      join(dir, 'plugin.yaml'),
      JSON.stringify({ host: 'router', bus: { listen: [rabbit.url], rebind_ms: 100, route: { prefetch: 50 } } }),
    );
    const start = () => {
      const child = spawn(process.execPath, [PROGRAM, 'route', '--config', join(dir, 'plugin.yaml')], {
        stdio: 'ignore',
      });
      children.push(child);
      return child;
    };
    await using nova = await services();
    await using one = agent('node1');
    const first = start();
    const second = start();
    const consumers = async () =>
      (await nova.channel.checkQueue('shiftvol.router').catch(() => undefined))?.consumerCount;
    await until('both are subscribed', async () => (await consumers()) === 2);
    await until('the agent hears them', () => one.bus.status.exchanges['shiftvol.route'] === 'bound');
    const all = 3000;
    for (let n = 0; n < all; n++) nova.tell(n, 'node1');
    await nova.channel.waitForConfirms();
    await until('some went through', () => one.handled.length > 200);
    first.kill('SIGKILL');
    await until('all went through', () => new Set(one.handled).size === all);
    assert.equal(one.handled.length, all, 'what a dead router gave twice is known again');
    assert.equal(second.exitCode, null);
  } finally {
    for (const child of children) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await rm(dir, { recursive: true });
  }
});

test('a topic of its own host needs no router', async () => {
  const exchanges = [{ exchange: 'cells', topics: ['shiftvol.{host}'] }];
  await using nova = await services('cells');
  const handled: string[] = [];
  await using bus = startBus({ ...configFor(rabbit.url, { exchanges }), host: 'node7' }, async command => {
    handled.push(command.instance.ref);
  });
  await until('it hears its topic', () => bus.status.exchanges['cells'] === 'bound');
  for (const host of ['node7', 'node8'])
    nova.channel.publish('cells', `shiftvol.${host}.info`, bodyOf(attachNote(1, 'node7')), {
      contentType: 'application/json',
      contentEncoding: 'utf-8',
    });
  await nova.channel.waitForConfirms();
  await until('it is done', () => handled.length === 1);
  assert.equal(bus.status.counters.received, 1);
});
