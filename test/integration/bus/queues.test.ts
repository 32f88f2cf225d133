/** Queues and exchanges that are not there yet, are taken away, are of another kind, or are full. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConfirmChannel } from 'amqplib';
import type { Command } from '../../../src/engine/model.ts';
import { emit } from '../../rig/oslo/peers.ts';
import type { Rabbit } from '../../rig/rabbit.ts';
import {
  attachNote,
  bodyOf,
  getAll,
  JSON_PROPERTIES,
  ownQueues,
  queueOf,
  type RawBroker,
  startBus,
  startRawBroker,
  until,
  uuid,
} from './helpers.ts';

let rabbit: Rabbit;
let broker: RawBroker;
let channel: ConfirmChannel;
before(async () => {
  broker = await startRawBroker();
  ({ rabbit, channel } = broker);
  await channel.assertExchange('nova', 'topic', { durable: false });
});
after(async () => {
  await broker?.[Symbol.asyncDispose]();
});

/** Each test has a queue and dead letters of its own. */
const config = ownQueues(() => rabbit);
const depth = async (queue: string) => (await channel.checkQueue(queue)).messageCount;

test('is healthy when subscribed, even though an exchange is not there yet; binds when it comes', async () => {
  const commands: Command[] = [];
  await using service = startBus(
    config({ exchanges: [{ exchange: 'late', topics: ['t'] }] }),
    async c => void commands.push(c),
  );
  await until('subscribed', () => service.bus.status.healthy);
  assert.deepEqual(service.status.exchanges, { late: 'absent' });

  await emit(rabbit.url, [{ ...attachNote(1), exchange: 'late', topic: 't' }]); // makes the exchange
  await until('bound', () => service.status.exchanges['late'] === 'bound');
  await emit(rabbit.url, [{ ...attachNote(2), exchange: 'late', topic: 't' }]);
  await until('handled', () => commands.length === 1);

  assert.equal(commands[0]?.instance.ref, uuid(2));
});

test('a queue that is deleted under us is declared and bound again', async () => {
  const commands: Command[] = [];
  await using service = startBus(config(), async c => void commands.push(c));
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');
  const queue = service.status.queue;

  await channel.deleteQueue(queue);
  await until('noticed', () => service.lines.some(l => JSON.stringify(l.fields).includes('the queue was taken away')));
  await until('subscribed', () => service.status.subscribed);
  channel.publish('nova', 'versioned_notifications.info', bodyOf(attachNote(1)), JSON_PROPERTIES);
  await until('handled', () => commands.length === 1);

  assert.ok(service.bus.status.healthy);
});

test('an exchange that is deleted and made again is bound to again', async () => {
  const commands: Command[] = [];
  await using service = startBus(
    config({ exchanges: [{ exchange: 'fickle', topics: ['t'] }], rebind_ms: 50, restore_exchanges: false }),
    async c => void commands.push(c),
  );
  await channel.assertExchange('fickle', 'topic', { durable: false });
  await until('bound', () => service.status.exchanges['fickle'] === 'bound');

  await channel.deleteExchange('fickle');
  await channel.assertExchange('fickle', 'topic', { durable: true });
  await until('handled', async () => {
    channel.publish('fickle', 't.info', bodyOf(attachNote(1)), JSON_PROPERTIES);
    await sleep(50);
    return commands.length > 0;
  });

  await channel.deleteExchange('fickle');
});

test('a queue that exists with other limits is used as it is', async () => {
  const cfg = config();
  await channel.assertQueue(queueOf(cfg), { durable: true, arguments: { 'x-queue-type': 'quorum' } });

  await using service = startBus(cfg, async () => {});
  await until('subscribed', () => service.status.subscribed);

  assert.ok(service.lines.some(l => l.level === 'warn' && l.message.startsWith('exists with other arguments')));
});

test('above its limit the queue gives the oldest to the dead letters, and the publisher is not held up', async () => {
  const cfg = config({ queue_limits: { max_length: 100 } });
  {
    await using service = startBus(cfg, async () => {});
    await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');
  }

  for (let n = 0; n < 150; n++)
    channel.publish('nova', 'versioned_notifications.info', bodyOf(attachNote(n)), JSON_PROPERTIES);
  await channel.waitForConfirms();
  await until('dropped', async () => (await depth(cfg.bus.deadLetter.queue)) >= 50);

  const dead = await getAll(channel, cfg.bus.deadLetter.queue);
  assert.equal(dead.length, 50);
  assert.equal(dead[0]?.properties.headers?.['x-first-death-reason'], 'maxlen');
});
