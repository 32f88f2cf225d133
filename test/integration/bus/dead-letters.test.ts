/** What lies in the dead letters of a real broker: seen, replayed, thrown away, and never said too much of. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { type ConfirmChannel, connect } from 'amqplib';
import { dropDead, listDead, replayDead, showDead } from '../../../src/bus/dead-letters.ts';
import { isError } from '../../../src/errors.ts';
import { type Rabbit, startRabbit } from '../../rig/rabbit.ts';
import { configFor } from './helpers.ts';

const NEVER = new AbortController().signal;
const UUID = '83322272-3c67-43d5-a690-6a6d28d71604';
let rabbit: Rabbit;
let connection: Awaited<ReturnType<typeof connect>>;
let channel: ConfirmChannel;

before(async () => {
  rabbit = await startRabbit();
  connection = await connect(rabbit.url.replace('rabbit:', 'amqp:'));
  channel = await connection.createConfirmChannel();
  await channel.assertQueue('shiftvol.node1', { durable: true });
});
after(async () => {
  await connection?.close();
  await rabbit?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await channel.assertQueue('shiftvol.dead', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await channel.purgeQueue('shiftvol.dead');
  await channel.purgeQueue('shiftvol.node1');
});

async function bury(n: number, queue = 'shiftvol.node1', more: object = {}): Promise<void> {
  const payload = { 'nova_object.data': { uuid: UUID, host: 'node1', admin_pass: 'hunter2', name: 'x' } };
  const inner = { message_id: `m${n}`, event_type: 'instance.volume_attach.end', payload, ...more };
  const body = { 'oslo.version': '2.0', 'oslo.message': JSON.stringify(inner) };
  channel.sendToQueue('shiftvol.dead', Buffer.from(JSON.stringify(body)), {
    contentType: 'application/json',
    headers: {
      'x-shiftvol-reason': `Cannot find the volume ${n}`,
      'x-shiftvol-code': 'SV_VOLUME_NOT_FOUND',
      'x-shiftvol-host': 'node1',
      'x-shiftvol-queue': queue,
      'x-shiftvol-at': `2026-01-01T00:00:0${n}.000Z`,
      'x-shiftvol-attempt': '24',
      'x-shiftvol-exchange': 'nova',
      'x-shiftvol-routing-key': 'versioned_notifications.info',
    },
  });
  await channel.waitForConfirms();
}
const count = async (queue: string) => (await channel.checkQueue(queue)).messageCount;
/** A closed channel's messages come back a moment later. */
async function waitFor(queue: string, wanted: number): Promise<void> {
  const until = Date.now() + 5000;
  while ((await count(queue)) !== wanted && Date.now() < until) await new Promise(resolve => setTimeout(resolve, 20));
  assert.equal(await count(queue), wanted);
}

test('they are listed with reason, event and names, without what the message says, and stay', async () => {
  await bury(1);
  await bury(2);

  const letters = await listDead(configFor(rabbit.url), NEVER);

  assert.deepEqual(
    letters.map(l => [l.at, l.reason, l.code, l.host, l.event, l.messageId, l.ids]),
    [1, 2].map(n => [
      `2026-01-01T00:00:0${n}.000Z`,
      `Cannot find the volume ${n}`,
      'SV_VOLUME_NOT_FOUND',
      'node1',
      'instance.volume_attach.end',
      `m${n}`,
      { uuid: UUID, host: 'node1' },
    ]),
  );
  assert.doesNotMatch(JSON.stringify(letters), /hunter2|guest:guest/);
  await waitFor('shiftvol.dead', 2);
  const { letter, body } = await showDead(configFor(rabbit.url), letters[1]?.id ?? '', NEVER);
  assert.equal(letter.messageId, 'm2');
  assert.match(body, /hunter2/);
});

test('looking at them often loses none', async () => {
  await bury(1);
  const first = await listDead(configFor(rabbit.url), NEVER);

  for (let i = 0; i < 25; i++) {
    await waitFor('shiftvol.dead', 1);
    assert.deepEqual(await listDead(configFor(rabbit.url), NEVER), first);
  }
  await waitFor('shiftvol.dead', 1);
});

test('a replayed one is as it came, back in the queue of its host; the others stay', async () => {
  await bury(1);
  await bury(2);
  const [first] = await listDead(configFor(rabbit.url), NEVER);
  await waitFor('shiftvol.dead', 2);

  const result = await replayDead(configFor(rabbit.url), [first?.id ?? ''], NEVER);

  assert.deepEqual(result, { replayed: [{ id: first?.id, queue: 'shiftvol.node1' }], kept: [] });
  await waitFor('shiftvol.dead', 1);
  const message = await channel.get('shiftvol.node1', { noAck: true });
  assert.ok(message);
  assert.match(message.content.toString(), /"m1|m1/);
  assert.equal(message.properties.contentType, 'application/json');
  assert.deepEqual(message.properties.headers, {
    'x-shiftvol-exchange': 'nova',
    'x-shiftvol-routing-key': 'versioned_notifications.info',
  });
});

test('one whose queue is gone, or is not ours, stays', async () => {
  await bury(1, 'shiftvol.gone');
  await bury(2, 'conductor');
  await channel.assertQueue('conductor');

  const { replayed, kept } = await replayDead(configFor(rabbit.url), 'all', NEVER);

  assert.deepEqual(replayed, []);
  assert.deepEqual(kept.map(k => k.queue).toSorted(), ['conductor', 'shiftvol.gone']);
  await waitFor('shiftvol.dead', 2);
  assert.equal(await count('conductor'), 0);
});

test('dropped ones are gone; an id that names none or several does nothing', async () => {
  await bury(1);
  await bury(2);
  const [first] = await listDead(configFor(rabbit.url), NEVER);
  await waitFor('shiftvol.dead', 2);

  await assert.rejects(dropDead(configFor(rabbit.url), [first?.id ?? '', 'ffffffffffff'], NEVER), e =>
    isError(e, 'SV_USAGE'),
  );
  await waitFor('shiftvol.dead', 2);
  assert.deepEqual(await dropDead(configFor(rabbit.url), [first?.id ?? ''], NEVER), [first?.id]);
  await waitFor('shiftvol.dead', 1);
  assert.equal((await dropDead(configFor(rabbit.url), 'all', NEVER)).length, 1);
  await waitFor('shiftvol.dead', 0);
});

test('where nothing was ever buried there is nothing, and without a broker that is told', async () => {
  await channel.deleteQueue('shiftvol.dead');
  assert.deepEqual(await listDead(configFor(rabbit.url), NEVER), []);
  await assert.rejects(listDead(configFor(rabbit.url, { listen: [] }), NEVER), e => isError(e, 'SV_CONFIG'));
});
