import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { ConfirmChannel } from 'amqplib';
import type { Rabbit } from '../../../rig/rabbit.ts';
import { JSON_PROPERTIES, type RawBroker, startRawBroker, until } from '../helpers.ts';
import { innerOf, requestBody, rpcConfig, serve } from './helpers.ts';

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

/** Sends calls, and collects what is answered, in its order. */
async function caller(topic: string) {
  const queue = `reply_${randomUUID().replaceAll('-', '')}`;
  await channel.assertQueue(queue, { durable: false, autoDelete: true });
  const answered: unknown[] = [];
  await channel.consume(queue, m => m && answered.push(innerOf(m.content)['_msg_id']), { noAck: true });
  const call = (id: string, inner: object) =>
    channel.publish(
      'shiftvol',
      `${topic}.node1`,
      requestBody({ ...inner, _msg_id: id, _reply_q: queue }),
      JSON_PROPERTIES,
    );
  return { answered, call };
}
const slow = { method: 'slow', args: { seconds: 1 } };
const ping = { namespace: 'baseapi', method: 'ping', version: '1.0', args: { arg: 1 } };

test('a question does not wait for calls that take long, nor for those that wait', async () => {
  const cfg = rpcConfig(rabbit.url, { topic: 'quick', parallel: 2 });
  await using service = await serve(cfg);
  const { answered, call } = await caller('quick');

  for (const id of ['s1', 's2', 's3']) call(id, slow);
  call('ping', ping);
  await until('answered', () => answered.length > 0);
  assert.deepEqual(answered, ['ping']);
  await until('all answered', () => answered.length === 4);

  assert.deepEqual(answered.toSorted(), ['ping', 's1', 's2', 's3']);
  assert.equal(service.status.running, 0);
});

test('calls are carried out as many at a time as ever', async () => {
  const cfg = rpcConfig(rabbit.url, { topic: 'bounded', parallel: 2 });
  await using service = await serve(cfg);
  const { answered, call } = await caller('bounded');
  let most = 0;

  for (let n = 0; n < 5; n++) {
    call(`p${n}`, ping);
    call(`s${n}`, { ...slow, args: { seconds: 0.1 } });
  }
  await until('all answered', () => {
    most = Math.max(most, service.status.running);
    return answered.length === 10;
  });

  assert.ok(most <= 4, `${most} at a time`);
});
