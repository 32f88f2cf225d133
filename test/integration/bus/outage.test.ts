import assert from 'node:assert/strict';
import { after, before, beforeEach, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BusChannel } from '../../../src/bus/channel.ts';
import { open } from '../../../src/bus/connection.ts';
import { parseTransportUrl } from '../../../src/config/transport-url.ts';
import type { AttachmentEvent } from '../../../src/engine/model.ts';
import { emit, listen } from '../../rig/oslo/peers.ts';
import { startProxy } from '../../rig/proxy.ts';
import { type Rabbit, startRabbit } from '../../rig/rabbit.ts';
import { attachNote, configFor, HOST, MemoryOutbox, rawChannel, startBus, until, uuid } from './helpers.ts';

let rabbit: Rabbit;
before(async () => {
  rabbit = await startRabbit();
});
after(() => rabbit?.[Symbol.asyncDispose]());
/** As on a broker that nobody has used yet. */
beforeEach(async () => {
  await using raw = await rawChannel(rabbit.url);
  for (const exchange of ['nova', 'shiftvol']) await raw.channel.deleteExchange(exchange);
  for (const queue of [`shiftvol.${HOST}`, `shiftvol.${HOST}.retry`, 'versioned_notifications.info'])
    await raw.channel.deleteQueue(queue);
});

const EVENTS = 200;
const all = Array.from({ length: EVENTS }, (_, n) => attachNote(n));

/** 200 notifications of Python's Notifier at 50/s, with an outage after a quarter of them. The exchange is durable. */
async function outage(t: TestContext, end: 'stop' | 'kill') {
  {
    await using raw = await rawChannel(rabbit.url);
    await raw.channel.assertExchange('nova', 'topic', { durable: true });
  }
  const seen = new Map<string, number>();
  await using service = startBus(configFor(rabbit.url), async ({ instance }) => {
    seen.set(instance.ref, (seen.get(instance.ref) ?? 0) + 1);
    await sleep(5);
  });
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');

  const emitting = emit(`${rabbit.url}?amqp_durable_queues=true`, all, { rate: 50 });
  await until('a quarter', () => seen.size >= EVENTS / 4);
  await rabbit[end]();
  await until('the loss is seen', () => !service.bus.status.healthy);
  await sleep(1000);
  await rabbit.start();
  const result = await emitting;
  await until('all, or nothing more comes', async () => {
    const before = service.status.counters.received;
    if (seen.size === EVENTS) return true;
    await sleep(3000);
    return service.status.counters.received === before;
  });

  assert.deepEqual(result, { sent: EVENTS, failed: 0 });
  // The connection for results comes back by itself, a little later or earlier than the one that listens.
  await until('healthy again', () => service.bus.status.healthy);
  const { counters } = service.status;
  t.diagnostic(`handled ${counters.handled}, duplicates dropped ${counters.duplicate}, lost ${EVENTS - seen.size}`);
  assert.deepEqual(
    [...seen.values()].filter(n => n !== 1),
    [],
    'none twice',
  );
  return { lost: EVENTS - seen.size };
}

test('a broker that is stopped and started in the middle of 200 events: none lost, none twice (durable exchange)', async t => {
  assert.equal((await outage(t, 'stop')).lost, 0);
});

test('the same with a broker that dies', async t => {
  assert.equal((await outage(t, 'kill')).lost, 0);
});

test('a transient exchange, which the restart forgets, is made again as it was before Nova is back', async () => {
  {
    await using raw = await rawChannel(rabbit.url);
    await raw.channel.assertExchange('nova', 'topic', { durable: false });
  }
  const seen = new Set<string>();
  await using service = startBus(configFor(rabbit.url), async ({ instance }) => void seen.add(instance.ref));
  const listening = () => service.status.subscribed && service.status.exchanges['nova'] === 'bound';
  await until('listening', listening);

  await emit(rabbit.url, all.slice(0, EVENTS / 2));
  await until('half', () => seen.size === EVENTS / 2);
  await rabbit.stop();
  await until('the loss is seen', () => !service.bus.status.healthy);
  await rabbit.start();
  // In this order: what Nova publishes before we have bound again reaches its own queues only.
  await until('listening again', listening);

  assert.deepEqual(await emit(rabbit.url, all.slice(EVENTS / 2)), { sent: EVENTS / 2, failed: 0 });
  await until('the other half', () => seen.size === EVENTS);
});

test('a connection that is lost while a channel is being closed does not leave the close waiting for ever', async () => {
  const proxy = await startProxy(rabbit.port);
  const { bus } = configFor(`rabbit://guest:guest@127.0.0.1:${proxy.port}/`);
  const target = parseTransportUrl(bus.listen[0] ?? '');
  const [broker] = target.hosts;
  assert.ok(broker);
  await using connection = await open(broker, target, bus, 'test', new AbortController().signal);
  const channel = await BusChannel.open({ model: connection.model, broker: '', signal: connection.signal });

  proxy.swallow();
  const closed = channel[Symbol.asyncDispose]().then(() => 'closed');
  await sleep(50);
  await proxy[Symbol.asyncDispose]();

  assert.equal(await Promise.race([closed, sleep(2000, 'waits', { ref: true })]), 'closed');
});

test('results wait for the broker and are told in order, under one message id each', async () => {
  const outbox = new MemoryOutbox();
  await using service = startBus(
    configFor(rabbit.url, { events: { exchange: 'shiftvol', durable: true } }),
    async () => {},
    outbox,
  );
  await until('ready', () => service.bus.status.publisher.ready);
  await using listener = await listen(`${rabbit.url}?amqp_durable_queues=true`, ['shiftvol/notifications'], {
    count: 100,
    seconds: 60,
  });
  const event = (n: number): AttachmentEvent => ({
    action: 'attach',
    phase: 'end',
    instance: uuid(n),
    host: 'node1',
    at: '2026-11-24T15:23:19.548Z',
  });

  for (let n = 0; n < 50; n++) outbox.add(event(n));
  await until('some', () => service.bus.status.publisher.published >= 10);
  await rabbit.stop();
  for (let n = 50; n < 100; n++) outbox.add(event(n));
  await rabbit.start();
  await until('told', () => outbox.pending(1).length === 0, 60_000);

  const order = [
    ...new Map((await listener.heard).map(h => [h.metadata.message_id, h.payload['instance_uuid']])).values(),
  ];
  assert.deepEqual(
    order,
    Array.from({ length: order.length }, (_, n) => uuid(n)),
  );
  assert.ok(order.length >= 50);
});

test('a host that is down is passed over, and the password is not told', async () => {
  const url = `rabbit://guest:guest@127.0.0.1:1,guest:guest@127.0.0.1:${rabbit.port}/`;

  await using service = startBus(configFor(url), async () => {});
  await until('subscribed', () => service.status.subscribed);

  assert.ok(!JSON.stringify(service.lines).includes('guest:guest'));
});

test('a wrong password or vhost is tried again, said plainly, and ends at once when asked to', async () => {
  for (const url of [
    `rabbit://guest:wrong@127.0.0.1:${rabbit.port}/`,
    `rabbit://guest:guest@127.0.0.1:${rabbit.port}/none`,
  ]) {
    const service = startBus(configFor(url), async () => {});
    await until('told', () => service.lines.some(l => l.level === 'warn'));
    assert.ok(!service.bus.status.healthy);

    const started = performance.now();
    await service[Symbol.asyncDispose]();

    assert.ok(performance.now() - started < 2000);
    assert.ok(!JSON.stringify(service.lines).includes('wrong'));
  }
});
