import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { deflateSync } from 'node:zlib';
import type { ConfirmChannel } from 'amqplib';
import type { AttachmentEvent, Command } from '../../../src/engine/model.ts';
import { CODES, ShiftvolError } from '../../../src/errors.ts';
import { emit, listen } from '../../rig/oslo/peers.ts';
import type { Rabbit } from '../../rig/rabbit.ts';
import {
  attachNote,
  bodyOf,
  getAll,
  JSON_PROPERTIES,
  MemoryOutbox,
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
});
after(async () => {
  await broker?.[Symbol.asyncDispose]();
});

/** Each test has a queue and dead letters of its own. */
const config = ownQueues(() => rabbit);
const depth = async (queue: string) => (await channel.checkQueue(queue)).messageCount;
const event: AttachmentEvent = {
  action: 'attach',
  phase: 'end',
  instance: uuid(1),
  host: 'node1',
  at: '2026-11-24T15:23:19.548Z',
};

test('what Python’s Notifier sends becomes commands, and is acknowledged', async () => {
  const commands: Command[] = [];
  const cfg = config();
  await using service = startBus(cfg, async command => void commands.push(command));
  await channel.assertExchange('nova', 'topic', { durable: false });
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');
  const sample = (file: string) =>
    JSON.parse(readFileSync(new URL(`../../fixtures/notifications/${file}`, import.meta.url), 'utf8'));
  const here = (note: object, publisher_id: string) => ({ ...note, publisher_id });

  const result = await emit(rabbit.url, [
    here(sample('nova/instance-create-start.json'), 'nova-compute:node1'),
    here(sample('nova/instance-volume_attach-end.json'), 'nova-compute:node1'),
    sample('cinder/volume-attach-end.json'),
    sample('legacy/volume-attach.json'),
    sample('legacy/update.json'),
    here(sample('nova/instance-delete-end.json'), 'nova-compute:node2'),
  ]);
  await until('exchange openstack bound', () => service.status.exchanges['openstack'] === 'bound');
  await emit(rabbit.url, [sample('cinder/volume-attach-end.json'), sample('cinder/volume-detach-start.json')]);
  await until('all done', () => service.status.counters.received >= 7 && service.status.working === 0);

  assert.deepEqual(result, { sent: 6, failed: 0 });
  assert.deepEqual(
    commands.map(c => c.action).filter(a => a !== 'attach'),
    ['spawn', 'detach'],
  );
  const attaches = commands.filter(
    c => c.action === 'attach' && c.instance.ref === '68183120-926e-41a2-bd6b-3c335195648d',
  );
  assert.ok(attaches.length >= 2);
  assert.equal(new Set(attaches.map(c => c.requestId)).size, 1, 'the forms of one event are one request');
  assert.equal(service.status.counters.ignored['other-event'], 1);
  assert.equal(service.status.counters.ignored['other-host'], 1);
  assert.equal(await depth(cfg.bus.queue.replace('{host}', 'node1')), 0);
  assert.ok(service.bus.status.healthy);
});

test('what cannot be handled is a dead letter with its reason as text, and nothing waits behind it', async () => {
  const commands: Command[] = [];
  const cfg = config({ max_message: 2 ** 20 });
  await using service = startBus(cfg, async command => {
    if (command.instance.ref === uuid(666))
      throw new ShiftvolError('SV_IMAGE_REFUSED', 'Cannot mount "x": secretless reason');
    commands.push(command);
  });
  await channel.assertExchange('nova', 'topic', { durable: false });
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');
  const send = (content: Buffer | string, properties: object = JSON_PROPERTIES) =>
    channel.publish('nova', 'notifications.info', Buffer.from(content), properties);
  const good = attachNote(7);
  const withData = (data: object) =>
    bodyOf({ ...good, payload: { ...Object(good.payload), 'nova_object.data': data } });
  const bad: readonly [Buffer | string, string, object?][] = [
    ['not json', 'the body is not JSON'],
    ['', 'the body is not JSON'],
    [JSON.stringify({ 'oslo.version': '3.0', 'oslo.message': '{}' }), 'oslo.version "3.0", 2.0 is accepted'],
    [JSON.stringify({ 'oslo.version': '2.0', 'oslo.message': '{"a": NaN}' }), 'oslo.message is not JSON'],
    ['{"__proto__": {"event_type": "instance.delete.end"}}', 'event_type: Invalid input'],
    [bodyOf({ ...good, payload: null }), 'payload: Invalid input'],
    [withData({ uuid: 7 }), 'payload.nova_object.data.uuid: Invalid input'],
    [withData({ uuid: '../../etc', volume_id: '..' }), 'payload.nova_object.data.uuid: Invalid UUID'],
    [Buffer.alloc(2 ** 20, 'x'), 'the body is not JSON'],
    [Buffer.alloc(2 ** 20 + 1, 'x'), '1048577 bytes, at most 1048576 are accepted'],
    [
      deflateSync(Buffer.alloc(2 ** 26)),
      'inflates to more than',
      { ...JSON_PROPERTIES, headers: { compression: 'application/x-gzip' } },
    ],
    [bodyOf(attachNote(666)), 'Cannot mount "x": secretless reason'],
    ['{}', 'event_type', { ...JSON_PROPERTIES, headers: { big: 2 ** 40, code: 404, text: 'kept' } }],
  ];

  for (const [content, , properties] of bad) send(content, properties);
  send(bodyOf(good));
  await channel.waitForConfirms();
  await until('handled', () => commands.length === 1);
  await until('buried', () => service.status.counters.dead === bad.length);

  const dead = await getAll(channel, cfg.bus.deadLetter.queue);
  assert.equal(dead.length, bad.length);
  const reasons = dead.map(m => String(m.properties.headers?.['x-shiftvol-reason']));
  for (const [, reason] of bad)
    assert.ok(
      reasons.some(r => r.startsWith(reason)),
      `${reason} in ${reasons.join(' | ')}`,
    );
  for (const message of dead) {
    // The broker's own count, of the quorum queue that these were read from, is none of ours.
    const ours = Object.entries(message.properties.headers ?? {}).filter(([name]) => name !== 'x-delivery-count');
    assert.ok(
      ours.every(([, value]) => typeof value === 'string'),
      JSON.stringify(ours),
    );
    assert.equal(message.properties.headers?.['x-shiftvol-exchange'], 'nova');
  }
  assert.ok(dead.some(m => m.properties.headers?.['text'] === 'kept'));
  assert.equal(await depth(queueOf(cfg)), 0);
});

test('what may go well later comes back after a while, at most so often, and then is a dead letter', async () => {
  const tries = new Map<string, number>();
  const requests = new Set<string>();
  const cfg = config();
  await using service = startBus(cfg, async ({ instance: { ref }, requestId }) => {
    requests.add(String(requestId).split('req-')[1] ?? '');
    const n = (tries.get(ref) ?? 0) + 1;
    tries.set(ref, n);
    if (ref === uuid(1) && n < 3) throw new ShiftvolError('SV_BUSY', 'busy');
    if (ref === uuid(2)) throw new ShiftvolError('SV_INSTANCE_NOT_FOUND', 'Cannot find instance');
  });
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');

  channel.publish('nova', 'versioned_notifications.info', bodyOf(attachNote(1)), JSON_PROPERTIES);
  channel.publish('nova', 'versioned_notifications.info', bodyOf(attachNote(2)), JSON_PROPERTIES);
  await until('buried', () => service.status.counters.dead === 1);

  assert.deepEqual([tries.get(uuid(1)), tries.get(uuid(2))], [3, 4]);
  // What was final under its request id is another request; what may pass is the same.
  assert.deepEqual([...requests].sort(), ['1', '2', '2#1', '2#2', '2#3']);
  const [dead] = await getAll(channel, cfg.bus.deadLetter.queue);
  assert.equal(dead?.properties.headers?.['x-shiftvol-code'], 'SV_INSTANCE_NOT_FOUND');
  assert.equal(dead?.properties.headers?.['x-shiftvol-attempt'], '3');
  assert.equal(dead?.fields.routingKey, 'versioned_notifications.info');
});

test('an attach that waits while its volume is detached is void', async () => {
  const done: string[] = [];
  await using service = startBus(config({ retry: { delay_ms: 500, attempts: 3 } }), async ({ action }) => {
    done.push(action);
    if (action === 'attach') throw new ShiftvolError('SV_INSTANCE_NOT_FOUND', 'Cannot find instance');
  });
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');

  const attach = attachNote(1);
  channel.publish('nova', 'versioned_notifications.info', bodyOf(attach), JSON_PROPERTIES);
  await until('put aside', () => service.status.counters.retried === 1);
  const detach = { ...attach, event_type: 'instance.volume_detach.start' };
  channel.publish('nova', 'versioned_notifications.info', bodyOf(detach), JSON_PROPERTIES);
  await until('void', () => service.status.counters.ignored.superseded === 1);

  assert.deepEqual(done, ['attach', 'detach']);
});

test('the same message twice is handled once, also while the first is being handled', async () => {
  let handled = 0;
  const gate = Promise.withResolvers<void>();
  await using service = startBus(config(), async () => {
    handled++;
    await gate.promise;
  });
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');
  const body = bodyOf(attachNote(1));

  for (const key of ['versioned_notifications.info', 'notifications.info', 'versioned_notifications.info'])
    channel.publish('nova', key, body, JSON_PROPERTIES);
  await until('received', () => service.status.counters.received === 3);
  gate.resolve();
  await until('settled', () => service.status.working === 0);

  assert.equal(handled, 1);
  assert.equal(service.status.counters.duplicate, 2);
});

test('a Python listener reads the results, in order', async () => {
  const outbox = new MemoryOutbox();
  await using service = startBus(config(), async () => {}, outbox);
  await until('ready', () => service.bus.status.publisher.ready);
  await using listener = await listen(rabbit.url, ['shiftvol/notifications'], { count: 12 });

  outbox.add({ ...event, phase: 'start' });
  for (let n = 1; n <= 10; n++)
    outbox.add({ ...event, volumeId: String(n), durationMs: 4.2, steps: [{ step: 'mount', ms: 2 }] });
  outbox.add({ ...event, phase: 'error', error: { code: 'SV_MOUNT', message: 'Cannot mount' } });

  const heard = await listener.heard;
  assert.deepEqual(
    heard.filter(h => h.priority === 'info').map(h => [h.event_type, h.payload['volume_id']]),
    [['shiftvol.attach.start', null], ...Array.from({ length: 10 }, (_, i) => ['shiftvol.attach.end', String(i + 1)])],
  );
  const failure = heard.find(h => h.priority === 'error');
  assert.equal(failure?.event_type, 'shiftvol.attach.error');
  assert.deepEqual(failure?.payload['error'], { code: 'SV_MOUNT', message: 'Cannot mount' });
  assert.equal(new Set(heard.map(h => h.metadata.message_id)).size, 12);
  assert.deepEqual(outbox.pending(10), []);
});

test('results are told even though their exchange was deleted meanwhile', async () => {
  const outbox = new MemoryOutbox();
  await using service = startBus(
    config({ events: { exchange: 'results', queue: 'results.kept' } }),
    async () => {},
    outbox,
  );
  await until('ready', () => service.bus.status.publisher.ready);

  await channel.deleteExchange('results');
  outbox.add(event);
  await until('told', async () => outbox.pending(1).length === 0 && (await depth('results.kept')) === 1);
});

test('a stop waits for handlers and leaves nothing unsettled; one that is cut leaves its message in the queue', async () => {
  const cfg = config();
  const publish = (n: number) =>
    channel.publish('nova', 'versioned_notifications.info', bodyOf(attachNote(n)), JSON_PROPERTIES);
  {
    await using service = startBus(cfg, () => sleep(300));
    await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');
    publish(1);
    await until('working', () => service.status.working === 1);
  }
  assert.equal((await getAll(channel, queueOf(cfg))).length, 0);

  const work = new AbortController();
  const service = startBus(cfg, (_, signal) => sleep(60_000, undefined, { signal }), undefined, work.signal);
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');
  publish(2);
  await until('working', () => service.status.working === 1);
  work.abort();
  await service[Symbol.asyncDispose]();

  const left = await getAll(channel, queueOf(cfg));
  assert.deepEqual(
    left.map(m => String(m.content).includes(uuid(2))),
    [true],
  );
});

test('a message that comes again and again without an outcome is a dead letter in the end', async () => {
  const cfg = config({ reconnect: { min_ms: 10 } });
  await using service = startBus(cfg, async () => {
    throw new ShiftvolError('SV_CANCELLED', 'Cancelled');
  });
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');

  channel.publish('nova', 'versioned_notifications.info', bodyOf(attachNote(1)), JSON_PROPERTIES);
  await until('buried', () => service.status.counters.dead === 1);

  const [dead] = await getAll(channel, cfg.bus.deadLetter.queue);
  assert.match(String(dead?.properties.headers?.['x-shiftvol-reason']), /^came more than 20 times/);
});

test('a message that Python compressed is read', async () => {
  const commands: Command[] = [];
  await using service = startBus(config(), async c => void commands.push(c));
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');

  await emit(`${rabbit.url}?kombu_compression=gzip`, [attachNote(1)]);
  await until('handled', () => commands.length === 1);
});

test('no secret and no payload is in the log', async () => {
  const url = rabbit.url;
  await using service = startBus(config(), async () => {
    throw new ShiftvolError('SV_INTERNAL', 'fault');
  });
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');
  const note = attachNote(1);
  channel.publish(
    'nova',
    'versioned_notifications.info',
    bodyOf({ ...note, context: { request_id: 'req-1', auth_token: 'gAAAAsecret' } }),
    JSON_PROPERTIES,
  );
  await until('dead', () => service.status.counters.dead === 1);

  const text = JSON.stringify(service.lines);
  assert.ok(url.includes('guest:guest') && !text.includes('guest:guest') && text.includes('guest:***@'));
  assert.ok(!text.includes('gAAAAsecret'));
});

test('every code that a handler may throw has an outcome, and the consumer lives on', async () => {
  const codes = Object.keys(CODES).filter(c => c !== 'SV_CANCELLED');
  await using service = startBus(config({ retry: { delay_ms: 50, attempts: 1 } }), async ({ requestId }) => {
    const code = codes[Number.parseInt(requestId?.split('req-')[1] ?? '', 10)];
    const known = Object.keys(CODES).find((c): c is keyof typeof CODES => c === code);
    if (known) throw new ShiftvolError(known, known);
  });
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');

  for (let n = 0; n <= codes.length; n++)
    channel.publish('nova', 'versioned_notifications.info', bodyOf(attachNote(n)), JSON_PROPERTIES);
  // SV_TEMPLATE_NOT_FOUND of a "*" binding is no error.
  await until(
    'all settled',
    () => service.status.counters.dead === codes.length - 1 && service.status.counters.handled === 1,
  );

  assert.equal(service.status.counters.ignored['no-template'], 1);
});
