import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { ConfirmChannel } from 'amqplib';
import { BusChannel } from '../../../../src/bus/channel.ts';
import { open } from '../../../../src/bus/connection.ts';
import { Replies } from '../../../../src/bus/rpc/replies.ts';
import { parseTransportUrl } from '../../../../src/config/transport-url.ts';
import type { Rabbit } from '../../../rig/rabbit.ts';
import { getAll, type RawBroker, startRawBroker, until } from '../helpers.ts';
import { innerOf, rpcConfig } from './helpers.ts';

let rabbit: Rabbit;
let broker: RawBroker;
let channel: ConfirmChannel;
before(async () => {
  broker = await startRawBroker();
  ({ rabbit, channel } = broker);
});
after(async () => {
  await broker?.[Symbol.asyncDispose]();
});

async function connection() {
  const { bus } = rpcConfig(rabbit.url);
  const target = parseTransportUrl(rabbit.url);
  const [broker] = target.hosts;
  assert.ok(broker);
  const connected = await open(broker, target, bus, 'test', new AbortController().signal);
  const session = { model: connected.model, broker: '', signal: connected.signal };
  const replying = await BusChannel.open(session);
  return { replying, [Symbol.asyncDispose]: () => connected[Symbol.asyncDispose]() };
}

function newReplies(retryForMs: number) {
  const lines: string[] = [];
  const none = () => undefined;
  const warn = (text: string, fields?: object) => void lines.push(`${text} ${JSON.stringify(fields)}`);
  const log = { debug: none, info: none, warn, error: none };
  return { replies: new Replies({ log, maxBytes: 2 ** 20, retryForMs }), lines };
}

test('a caller’s queue that does not come back is given up, and nothing is sent there for a minute', async () => {
  await using to = await connection();
  const { replies, lines } = newReplies(600);
  replies.use(to.replying);

  for (let n = 0; n < 20; n++) replies.send({ queue: 'reply_1', messageId: `m${n}` }, { result: n });
  await replies.settled(10_000);
  assert.deepEqual(replies.counters, { sent: 0, undeliverable: 20 });
  await channel.assertQueue('reply_1', { durable: false });
  replies.send({ queue: 'reply_1', messageId: 'late' }, { result: 1 });
  replies.heartbeat({ queue: 'reply_1', messageId: 'late' });
  await replies.settled(10_000);

  assert.equal(replies.counters.undeliverable, 21);
  assert.equal(lines.length, 20, 'told of so many a minute, the rest is counted');
  assert.deepEqual(await getAll(channel, 'reply_1'), []);
});

test('replies wait for a connection, so long and no longer', async () => {
  const { replies } = newReplies(3000);
  await channel.assertQueue('reply_2', { durable: false });

  replies.send({ queue: 'reply_2', messageId: 'waits' }, { result: 1 });
  {
    await using first = await connection();
    replies.use(first.replying);
    await until('sent', () => replies.counters.sent === 1);
  }
  replies.send({ queue: 'reply_2', messageId: 'waits for the next' }, { failure: '{}' });
  await using second = await connection();
  replies.use(second.replying);
  await until('sent', () => replies.counters.sent === 2);
  const { replies: lonely } = newReplies(300);
  lonely.send({ queue: 'reply_2', messageId: 'in vain' }, { result: 1 });
  await lonely.settled(10_000);

  assert.deepEqual(lonely.counters, { sent: 0, undeliverable: 1 });
  assert.deepEqual(
    (await getAll(channel, 'reply_2')).map(m => innerOf(m.content)).map(r => [r['_msg_id'], r['result'], r['failure']]),
    [
      ['waits', 1, null],
      ['waits for the next', null, '{}'],
    ],
  );
});

test('what waits is bounded: above it replies are dropped, not kept', async () => {
  const { replies } = newReplies(1000);
  const result = 'x'.repeat(2 ** 19);

  for (let n = 0; n < 200; n++) replies.send({ queue: 'reply_3', messageId: 'm' }, { result });

  assert.ok(replies.counters.undeliverable > 50, `${replies.counters.undeliverable} of 200`);
  await replies.settled(10_000);
  assert.equal(replies.counters.undeliverable, 200);
});

test('who names very many queues that are not there has few of them looked for', async () => {
  await using to = await connection();
  const { replies, lines } = newReplies(1000);
  replies.use(to.replying);

  for (let n = 0; n < 300; n++) replies.send({ queue: `reply_none_${n}`, messageId: 'm' }, { result: n });
  await replies.settled(20_000);

  assert.equal(replies.counters.undeliverable, 300);
  // Those are given up at once, so that they are the first ones; told of is no more than that in a minute.
  assert.equal(lines.filter(line => /too many/.test(line)).length, 20);
});
