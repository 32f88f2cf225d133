/** What a collector is sent of an agent's work: RabbitMQ, LXD and the kernel are real, and the notifications are Nova's. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { execute } from '../../e2e/ask.ts';
import { BusWorld, uuidOf } from '../../e2e/bus-world.ts';
import { SECRET, versioned } from '../../e2e/notes.ts';
import type { Agent } from '../../e2e/world.ts';
import type { Note } from '../../rig/oslo/peers.ts';
import { type Collector, type SpanSeen, startCollector } from '../../rig/otlp.ts';
import { bodyOf, JSON_PROPERTIES, until } from '../bus/helpers.ts';

const C1 = uuidOf('c1');
const GOOD = uuidOf('good volume');
const BAD = uuidOf('bad volume');
const CALLER = { trace: '0af7651916cd43dd8448eb211c80319c', span: 'b7ad6b7169203331' };
let bus: BusWorld;
let collector: Collector;
let agent: Agent;

before(async () => {
  [bus, collector] = await Promise.all([BusWorld.make({ durable: false }), startCollector()]);
  await bus.world.lxd.launch('c1', { 'user.nova_uuid': C1 });
  agent = await serve({ otlp_endpoint: collector.endpoint });
});
after(async () => {
  await agent?.[Symbol.asyncDispose]();
  await bus?.[Symbol.asyncDispose]();
  await collector?.[Symbol.asyncDispose]();
});

async function serve(trace: object): Promise<Agent> {
  const garbage = join(bus.world.dir, 'garbage.img');
  writeFileSync(garbage, Buffer.alloc(2 ** 20, 'x'));
  const config = {
    trace,
    bus: {
      listen: [bus.rabbit.url],
      exchanges: [{ exchange: 'nova', topics: ['versioned_notifications', 'notifications'] }],
      events: { queue: 'results' },
      rebind_ms: 100,
      reconnect: { min_ms: 200, max_ms: 1000 },
    },
    bindings: {
      volumes: [
        { volume: BAD, file: garbage, target: '/mnt/bad' },
        { volume: '*', template: 'web' },
      ],
    },
  };
  const started = await bus.world.agent(JSON.stringify(config));
  await bus.listening();
  return started;
}

async function publish(note: Note, headers: Record<string, string> = {}): Promise<void> {
  const channel = await bus.channel();
  channel.publish('nova', 'versioned_notifications.info', bodyOf(note), { ...JSON_PROPERTIES, headers });
  await channel.waitForConfirms();
}

const rootOf = (request: string) =>
  collector.until(`root of ${request}`, s => s.attributes['openstack.request_id'] === request && s.kind === 5);

function assertWithin(parent: SpanSeen): void {
  for (const child of collector.below(parent)) {
    assert.equal(child.traceId, parent.traceId);
    assert.ok(child.start >= parent.start && child.end <= parent.end, `${child.name} is within ${parent.name}`);
    assert.ok(child.end >= child.start);
    assertWithin(child);
  }
}

test('an attach is one tree: the message, the command, each step, and the telling of its end', async () => {
  const traceparent = `00-${CALLER.trace}-${CALLER.span}-01`;
  await publish(versioned('instance-volume_attach-end', { instance: C1, volume: GOOD, request: 'req-good' }), {
    traceparent,
  });

  const root = await rootOf('req-good');
  assert.equal(root.name, 'process nova');
  assert.deepEqual([root.traceId, root.parent], [CALLER.trace, CALLER.span], 'the caller’s trace goes on');
  const { attributes, resource } = root;
  const id = attributes['shiftvol.attachment_id'];
  assert.match(String(id), /^[0-9a-f]{16}$/);
  const about = {
    'openstack.request_id': 'req-good',
    'openstack.instance_uuid': C1,
    'openstack.volume_id': GOOD,
    'shiftvol.attachment_id': id,
    'shiftvol.target': `/mnt/${GOOD}`,
    'shiftvol.runtime': 'lxd',
    'shiftvol.backend': 'template',
  };
  const { 'messaging.message.id': messageId, 'messaging.message.body.size': size, ...named } = attributes;
  assert.match(String(messageId), /^[\w-]{8,}$/);
  assert.ok(Number(size) > 1000);
  assert.deepEqual(named, {
    ...about,
    'openstack.event_type': 'instance.volume_attach.end',
    'messaging.system': 'rabbitmq',
    'messaging.operation.type': 'process',
    'messaging.operation.name': 'process',
    'messaging.destination.name': 'nova:versioned_notifications.info',
    'messaging.rabbitmq.destination.routing_key': 'versioned_notifications.info',
    'shiftvol.snapshot': `web/${id}`,
    'shiftvol.outcome': 'done',
  });
  assert.deepEqual(
    [resource['service.name'], resource['host.name'], resource['process.pid']],
    ['shiftvol', 'node1', agent.pid],
  );

  const below = collector.below(root);
  assert.deepEqual(
    below.map(({ name, kind, status }) => [name, kind, status.code]),
    [
      ['attach', 1, 0],
      ['publish shiftvol', 4, 0],
    ],
  );
  const [command, told] = below;
  assert.ok(command && told);
  assert.equal(told.attributes['shiftvol.event'], 'shiftvol.attach.end');
  for (const [key, value] of Object.entries(about)) assert.equal(command.attributes[key], value, key);
  assert.equal(command.attributes['shiftvol.outcome'], 'done');
  const steps = collector.below(command);
  assert.deepEqual(
    steps.map(s => s.name),
    ['snapshot', 'device', 'mount', 'handoff'],
  );
  for (const step of steps) assert.equal(step.attributes['shiftvol.attachment_id'], id);
  assertWithin(root);
});

test('an attach that fails has the status ERROR with the code, as has the step that it failed in, and what was undone is there', async () => {
  await publish(versioned('instance-volume_attach-end', { instance: C1, volume: BAD, request: 'req-bad' }));

  const root = await rootOf('req-bad');
  const [command] = collector.below(root);
  assert.ok(command);
  for (const span of [root, command]) {
    assert.equal(span.status.code, 2);
    assert.match(span.status.message ?? '', /garbage\.img/);
    assert.equal(span.attributes['error.type'], 'SV_IMAGE_REFUSED');
    assert.equal(span.attributes['openstack.volume_id'], BAD);
    assert.equal(span.attributes['shiftvol.backend'], 'file');
  }
  assert.deepEqual(
    [root.attributes['shiftvol.outcome'], command.attributes['shiftvol.outcome']],
    ['dead-letter', 'failed'],
  );
  assert.deepEqual(
    collector.below(command).map(({ name, status }) => [name, status.code]),
    [
      ['snapshot', 0],
      ['device', 2],
      ['undo device', 0],
      ['undo snapshot', 0],
    ],
  );
  assertWithin(root);
});

test('what is asked over the socket and by RPC begins a trace too; a caller that osprofiler traces is its parent', async () => {
  await execute(bus.world, {
    action: 'detach',
    instance: { ref: 'c1' },
    volumeId: GOOD,
    lazy: false,
    requestId: 'req-by-hand',
  });
  const http = await collector.until('of the socket', s => s.name === 'POST /v1/call detach');
  assert.equal(http.kind, 2);
  assert.equal(http.parent, undefined);
  assert.equal(http.attributes['openstack.request_id'], 'req-by-hand');
  assert.deepEqual(
    collector.below(http).map(s => s.name),
    ['detach', 'publish shiftvol'],
  );
  assertWithin(http);

  Object.assign(bus.world.env, { TRACEPARENT: `00-${CALLER.trace}-${CALLER.span}-01` });
  assert.equal((await bus.world.cli('recover')).code, 0);
  const recover = await collector.until('of the command line', s => s.name === 'POST /v1/call recover');
  assert.deepEqual([recover.traceId, recover.parent], [CALLER.trace, CALLER.span], 'a script that is traced');

  const channel = await bus.channel();
  const info = {
    hmac_key: SECRET,
    base_id: '11111111-2222-4333-8444-555555555555',
    parent_id: 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee',
  };
  const message = { method: 'no_such_thing', args: {}, _context_request_id: 'req-rpc', _context_trace_info: info };
  const body = { 'oslo.version': '2.0', 'oslo.message': JSON.stringify(message) };
  channel.publish('shiftvol', 'shiftvol.node1', Buffer.from(JSON.stringify(body)), JSON_PROPERTIES);
  const cast = await collector.until('of the cast', s => s.name === 'no_such_thing');
  assert.deepEqual([cast.traceId, cast.parent], [info.base_id.replaceAll('-', ''), '8dddeeeeeeeeeeee']);
  assert.equal(cast.kind, 5);
  assert.equal(cast.status.code, 2);
  assert.equal(cast.attributes['rpc.method'], 'no_such_thing');
  assert.ok(!collector.bodies.join('').includes(SECRET), 'no secret of a message');
});

test('a collector that is away, or hangs, slows nothing and ends nothing; what was dropped is counted in one line', async () => {
  collector.status = null;
  const instance = { ref: 'c1' };
  const target = '/mnt/away';
  const source = { kind: 'template', template: 'web' } as const;
  const commands = [
    { action: 'attach', instance, target, source, readOnly: false, requestId: 'req-away-1' },
    { action: 'detach', instance, target, lazy: false, requestId: 'req-away-2' },
  ] as const;
  for (const command of commands) {
    const answer = await execute(bus.world, command);
    assert.equal(answer?.error, undefined);
    await bus.untilTold(command.requestId, `${command.action}.end`);
  }
  await until('a line', () => /spans of traces were dropped.*dropped=\d+/.test(agent.log()));

  const began = performance.now();
  await agent.kill('SIGTERM');
  assert.ok(performance.now() - began < 8000, `ended in ${Math.round(performance.now() - began)} ms`);
  assert.equal(agent.process.exitCode, 0);
  assert.ok([...agent.log().matchAll(/spans of traces were dropped/g)].length <= 2);
});
