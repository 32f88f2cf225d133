import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { ConfirmChannel } from 'amqplib';
import { rpcClient } from '../../../rig/oslo/rpc.ts';
import { type Rabbit, startRabbit } from '../../../rig/rabbit.ts';
import { getAll, JSON_PROPERTIES, rawChannel, until } from '../helpers.ts';
import { innerOf, requestBody, rpcConfig, serve } from './helpers.ts';

let rabbit: Rabbit;
let raw: Awaited<ReturnType<typeof rawChannel>>;
let channel: ConfirmChannel;
before(async () => {
  rabbit = await startRabbit();
  raw = await rawChannel(rabbit.url);
  channel = raw.channel;
});
after(async () => {
  await raw?.[Symbol.asyncDispose]();
  await rabbit?.[Symbol.asyncDispose]();
});

let topics = 0;
const config = (rpc: object = {}) => rpcConfig(rabbit.url, { topic: `t${++topics}`, ...rpc });
const replyQueue = async () => {
  const name = `reply_${randomUUID().replaceAll('-', '')}`;
  await channel.assertQueue(name, { durable: false, autoDelete: true });
  return name;
};
type Sent = { readonly topic: string; readonly server?: string };
const send = ({ topic, server = 'node1' }: Sent, body: Buffer | string, properties: object = JSON_PROPERTIES) =>
  channel.publish('shiftvol', `${topic}.${server}`, Buffer.from(body), properties);

test('what is no request is dropped, counted and told in the log without its contents; the next one is answered', async () => {
  const cfg = config();
  await using service = await serve(cfg);
  const queue = await replyQueue();
  const call = { method: 'echo', args: { value: 1 }, _msg_id: 'm', _reply_q: queue };
  const bad: readonly (Buffer | string)[] = [
    '',
    'not json',
    '[]',
    '{"oslo.version": "3.0", "oslo.message": "{}"}',
    '{"oslo.version": "2.0", "oslo.message": "{\\"method\\": NaN}"}',
    Buffer.from([0xff, 0xfe]),
    requestBody({ ...call, method: undefined }),
    requestBody({ ...call, method: 7 }),
    requestBody({ ...call, method: 'x'.repeat(10_000) }),
    requestBody({ ...call, method: 'new\nline' }),
    requestBody({ ...call, args: [1] }),
    requestBody({ ...call, args: 'secret' }),
    requestBody({ ...call, version: 1.5 }),
    requestBody({ ...call, _msg_id: { a: 1 } }),
    requestBody({ ...call, _reply_q: undefined }),
    // Whoever could choose the queue could write to any.
    requestBody({ ...call, _reply_q: 'notifications.info' }),
    requestBody({ ...call, _reply_q: '' }),
    requestBody({ ...call, _reply_q: `reply_${'x'.repeat(300)}` }),
    Buffer.alloc(20 * 2 ** 20, '['),
  ];

  for (const body of bad) send(cfg.rpc, body);
  send(cfg.rpc, requestBody(call), { ...JSON_PROPERTIES, contentType: 'text/plain' });
  await channel.waitForConfirms();
  send(cfg.rpc, requestBody({ ...call, _timeout: 'soon', _unique_id: 7, _context_request_id: { a: 1 }, more: 1 }));
  await until('answered', () => service.status.counters.sent === 1);

  assert.equal(service.status.counters.malformed, bad.length + 1);
  assert.equal(service.called.length, 1);
  assert.ok(!JSON.stringify(service.lines).includes('secret'));
  assert.equal((await getAll(channel, queue)).length, 1);
});

test('the reply is as Python’s', async () => {
  const cfg = config();
  await using service = await serve(cfg);
  const queue = await replyQueue();

  send(cfg.rpc, requestBody({ method: 'echo', args: { value: { a: 1 } }, _msg_id: 'm1', _reply_q: queue }));
  await until('answered', () => service.status.counters.sent === 1);

  const [reply] = await getAll(channel, queue);
  const { _unique_id: uniqueId, ...inner } = innerOf(reply?.content ?? Buffer.alloc(0));
  assert.deepEqual(inner, { result: { a: 1 }, failure: null, ending: true, _msg_id: 'm1' });
  assert.match(String(uniqueId), /^[0-9a-f]{32}$/);
  assert.equal(reply?.properties.contentType, 'application/json');
  assert.equal(reply?.properties.contentEncoding, 'utf-8');
  assert.deepEqual(reply?.properties.headers, {});
});

test('heartbeats say that it goes on, at half the time that the caller gives, and only where it asks', async () => {
  const cfg = config();
  await using service = await serve(cfg);
  const queue = await replyQueue();
  const slow = { method: 'slow', args: { seconds: 2.5 }, _reply_q: queue };

  send(cfg.rpc, requestBody({ ...slow, _msg_id: 'asks', _timeout: 2 }));
  for (const [id, timeout] of [
    ['null', null],
    ['one', 1],
    ['text', '2'],
    ['nan', -5],
  ] as const)
    send(cfg.rpc, requestBody({ ...slow, _msg_id: id, _timeout: timeout }));
  await until('answered', () => service.status.counters.sent === 5);

  const replies = (await getAll(channel, queue)).map(m => innerOf(m.content));
  const beats = replies.filter(r => r['ending'] === false);
  assert.deepEqual(
    beats.map(r => [r['_msg_id'], r['result'], r['failure']]),
    [
      ['asks', null, null],
      ['asks', null, null],
    ],
  );
  assert.equal(replies.length, 7);
});

test('the same request twice runs once, also when it comes again on another connection', async () => {
  const cfg = config();
  await using service = await serve(cfg);
  const queue = await replyQueue();
  const body = requestBody({ method: 'echo', args: { value: 1 }, _msg_id: 'm', _reply_q: queue, _unique_id: 'u-1' });

  for (let n = 0; n < 3; n++) send(cfg.rpc, body);
  await until('received', () => service.status.counters.received === 3 && service.status.counters.sent === 1);
  await rabbit.stop();
  await rabbit.start();
  await service.subscribed();
  await using again = await rawChannel(rabbit.url);
  again.channel.publish('shiftvol', `${cfg.rpc.topic}.node1`, body, JSON_PROPERTIES);
  await until('received', () => service.status.counters.duplicate === 3);

  assert.equal(service.called.length, 1);
  raw = await rawChannel(rabbit.url);
  channel = raw.channel;
});

test('at most so many run at a time; the others wait in the broker, and those whose callers gave up do not run', async () => {
  const cfg = config({ parallel: 2 });
  await using service = await serve(cfg);
  const slow = { method: 'slow', args: { seconds: 1 } };

  for (let n = 0; n < 2; n++) send(cfg.rpc, requestBody(slow));
  await until('running', () => service.status.running === 2);
  send(cfg.rpc, requestBody({ method: 'echo', args: { value: 'gave up' } }), { ...JSON_PROPERTIES, expiration: '100' });
  for (let n = 0; n < 20; n++) send(cfg.rpc, requestBody({ method: 'echo', args: { value: n } }));
  await channel.waitForConfirms();
  await until('some are taken', () => service.status.counters.received > 2);
  const { received } = service.status.counters;
  const { messageCount } = await channel.checkQueue(`${cfg.rpc.topic}_rpc.node1`);
  await until('all ran', () => service.status.counters.done === 22);

  assert.ok(received <= 4 && messageCount >= 18, `${received} received, ${messageCount} wait`);
  assert.equal(service.status.counters.expired, 1);
  assert.ok(service.called.every(c => c.args['value'] !== 'gave up'));
});

test('of large requests no more are held than memory is given to them; the others are carried out later, each once', async () => {
  const cfg = config();
  await using service = await serve(cfg);
  const filler = 'x'.repeat(15 * 2 ** 20);

  for (let n = 0; n < 6; n++) send(cfg.rpc, requestBody({ method: 'wait', args: { n, filler } }));
  await until('all have come', () => service.status.counters.received === 6);
  assert.equal(service.called.length, 4);
  send(cfg.rpc, requestBody({ method: 'go' }));
  await until('all ran', () => service.status.counters.done === 7);

  assert.deepEqual(
    service.called.flatMap(({ args: { n } }) => (typeof n === 'number' ? [n] : [])).sort(),
    [0, 1, 2, 3, 4, 5],
  );
  assert.ok(service.status.counters.received > 7, 'some went back to the broker');
});

test('a caller that is gone is told for a while, then forgotten; others are answered meanwhile', async () => {
  const cfg = config();
  await using service = await serve(cfg);
  const here = await replyQueue();
  const back = `reply_back_${topics}`;
  const call = (queue: string, id: string) =>
    send(cfg.rpc, requestBody({ method: 'echo', args: { value: id }, _msg_id: id, _reply_q: queue }));

  for (let n = 0; n < 100; n++) call('reply_gone', `gone-${n}`);
  for (const id of ['b1', 'b2']) call(back, id);
  await until('ran', () => service.status.counters.done === 102);
  for (let n = 0; n < 100; n++) call(here, `here-${n}`);
  await until('answered', () => service.status.counters.sent === 100);
  await sleep(300);
  await channel.assertQueue(back, { durable: false });
  await until('answered, too', () => service.status.counters.sent === 102);

  assert.deepEqual((await getAll(channel, back)).map(m => innerOf(m.content)['result']).sort(), ['b1', 'b2']);
  await channel.deleteQueue(back);
  // Nobody's patience but the shutdown's bound is tested here: it does not wait the minute out.
  assert.equal(service.status.running, 0);
});

test('a message that amqplib cannot read ends one connection or two, not all that follow', async () => {
  const cfg = config();
  await using service = await serve(cfg);
  const script = [
    'import kombu, sys',
    'c = kombu.Connection(sys.argv[1].replace("rabbit:", "amqp:"))',
    'ch = c.channel()',
    'm = ch.prepare_message(b"{}", headers={"x": 2**40}, content_type="application/json", content_encoding="utf-8")',
    'ch.basic_publish(m, exchange="shiftvol", routing_key=sys.argv[2])',
    'c.release()',
  ].join('\n');

  await promisify(execFile)('/usr/bin/python3', ['-c', script, rabbit.url, `${cfg.rpc.topic}.node1`]);
  await until('noticed', () => service.lines.some(l => l.level === 'warn'));
  await until('back', () => service.status.subscribed);
  await using python = await rpcClient(rabbit.url);

  const ask = { method: 'echo', args: { value: 1 }, topic: cfg.rpc.topic, server: 'node1' };
  assert.deepEqual(await python.ask(ask), { result: 1 });
  assert.ok(service.lines.filter(l => l.message === 'answers RPC').length <= 3);
});
