/** The main job with nothing faked: Nova's notifications sent by Python, RabbitMQ, the agent, LXD; the results read by Python. */
import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { AttachmentView } from '../../src/http/view.ts';
import { type Ear, openEar } from '../demo/ear.ts';
import { bodyOf, JSON_PROPERTIES, until } from '../integration/bus/helpers.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { emit, type Heard } from '../rig/oslo/peers.ts';
import { list } from './ask.ts';
import { BusWorld, uuidOf } from './bus-world.ts';
import { assertListIsTrue } from './consistent.ts';
import { cinder, legacy, SECRET, versioned } from './notes.ts';

const never = new AbortController().signal;
const C1 = uuidOf('c1');
const VOLUME = uuidOf('volume');
const TARGET = `/mnt/${VOLUME}`;
let bus: BusWorld;
let ear: Ear;
let clean: HostState;

before(async () => {
  bus = await BusWorld.make({ durable: false });
  await bus.world.lxd.launch('c1', { 'user.nova_uuid': C1 });
  await bus.serve();
  ear = await openEar(bus.rabbit.url, ['shiftvol/notifications']);
  clean = hostState(bus.world.dir);
});
after(async () => {
  await ear?.[Symbol.asyncDispose]();
  await bus?.[Symbol.asyncDispose]();
});

const inside = (name: string, script: string) => bus.world.lxd.sh(name, script);
const send = async (...notes: Parameters<typeof emit>[1]) =>
  assert.deepEqual(await emit(bus.rabbit.url, notes), { sent: notes.length, failed: 0 });
/** What Python hears up to the end of this kind, or an error. */
const heardUntil = (event: string) =>
  ear.until(heard => heard.event_type === `shiftvol.${event}` || heard.priority === 'error', never);
const only = async (): Promise<AttachmentView> => {
  const [one, ...others] = await list(bus.world);
  assert.ok(one && others.length === 0, 'one attachment');
  return one;
};

let deletes = 0;
/** Everything that this host made for the instance goes, as when Nova has deleted it. */
async function destroy(instance: string): Promise<void> {
  await send(versioned('instance-delete-end', { instance, request: `req-delete-${++deletes}` }));
  assert.deepEqual(names(await heardUntil('destroy.end')), ['destroy.start', 'destroy.end']);
  assert.deepEqual(await list(bus.world), []);
  await assertListIsTrue(bus.world, []);
  await assertHostUnchanged(clean);
}

const names = (heard: readonly Heard[]) => heard.map(h => h.event_type.slice('shiftvol.'.length));

test('a volume that Nova has attached is there inside with the right owners, and Python hears of it', async () => {
  await send(versioned('instance-volume_attach-end', { instance: C1, volume: VOLUME, request: 'req-1' }));

  const heard = await heardUntil('attach.end');
  assert.deepEqual(names(heard), ['attach.start', 'attach.end']);
  const { id } = await only();
  const facts = {
    instance_uuid: C1,
    volume_id: VOLUME,
    template: 'web',
    attachment_id: id,
    target: TARGET,
    host: 'node1',
    request_id: `attach/${C1}/${VOLUME}/req-1`,
    error: null,
  };
  const [start, end] = heard.map(h => ({ ...h.payload }));
  assert.deepEqual(start, { ...facts, duration_ms: null, steps: null });
  const { duration_ms: durationMs, steps, ...rest } = end ?? {};
  assert.deepEqual(rest, facts);
  assert.ok(typeof durationMs === 'number' && durationMs > 0 && Array.isArray(steps));
  assert.deepEqual(
    steps.map(step => step.step),
    ['snapshot', 'device', 'mount', 'handoff'],
  );
  assert.ok(steps.every(step => step.ms >= 0) && steps.reduce((sum, step) => sum + step.ms, 0) <= durationMs);
  for (const { publisher_id, context, metadata } of heard) {
    assert.equal(publisher_id, 'shiftvol.node1');
    assert.equal(context['request_id'], 'req-1');
    assert.match(metadata.message_id, /^[0-9a-f-]{36}$/);
  }
  assert.equal(
    await inside('c1', `cd ${TARGET} && stat -c '%n %u:%g %a' . d0000/f0 d0000/f1`),
    '. 0:0 755\nd0000/f0 1000:1000 644\nd0000/f1 0:0 644',
  );
  await assertListIsTrue(bus.world, await list(bus.world));
});

test('a volume that Nova detaches is gone; attached again it has what was written to it', async () => {
  await inside('c1', `echo kept > ${TARGET}/written`);
  await send(versioned('instance-volume_detach-start', { instance: C1, volume: VOLUME, request: 'req-2' }));

  assert.deepEqual(names(await heardUntil('detach.end')), ['detach.start', 'detach.end']);
  assert.equal(await inside('c1', `grep -c ${TARGET} /proc/mounts || true`), '0');
  assert.equal((await only()).state, 'detached');
  await assertListIsTrue(bus.world, await list(bus.world));

  await send(versioned('instance-volume_attach-end', { instance: C1, volume: VOLUME, request: 'req-3' }));
  await heardUntil('attach.end');
  assert.equal(await inside('c1', `cat ${TARGET}/written`), 'kept');
  await destroy(C1);
});

test('an instance that Nova makes finds its root file system ready, boots from it, and all is gone when Nova deletes it', async () => {
  const instance = uuidOf('spawned');
  await send(versioned('instance-create-start', { instance, request: 'req-spawn' }));

  const heard = await heardUntil('spawn.end');
  assert.deepEqual(names(heard), ['spawn.start', 'spawn.end']);
  assert.deepEqual(
    heard.map(h => [h.payload['instance_uuid'], h.payload['template'], h.payload['volume_id']]),
    [
      [instance, 'busybox', null],
      [instance, 'busybox', null],
    ],
  );
  const { role, hostPath, extents } = await only();
  const [uid, gid] = extents;
  assert.ok(role === 'root' && uid && gid);
  const { uid: owner, gid: group } = statSync(hostPath);
  assert.deepEqual([owner, group], [uid.hostId, gid.hostId]);

  const { lxd, dir, runDir } = bus.world;
  await chmod(dir, 0o711); // LXC walks down to the root file system as the instance's own root
  await lxd.createOn('s1', hostPath, { base: uid.hostId, size: uid.count }, { 'user.nova_uuid': instance });
  await lxd.start('s1');
  assert.equal(await inside('s1', "stat -c '%u:%g' / /bin/busybox /home/app | tr '\\n' ' '"), '0:0 0:0 1000:1000');
  assert.equal(await inside('s1', 'echo hello > /root/file && cat /root/file'), 'hello');
  assert.equal(statSync(join(hostPath, 'root/file')).uid, uid.hostId);

  await send(versioned('instance-volume_attach-end', { instance, volume: VOLUME, request: 'req-4' }));
  assert.deepEqual(names(await heardUntil('attach.end')), ['attach.start', 'attach.end']);
  assert.equal(await inside('s1', `stat -c %u ${TARGET}/d0000/f0`), '1000');
  await lxd.stop('s1');
  await lxd.delete('s1');
  await chmod(dir, 0o700);

  await destroy(instance);
  assert.deepEqual(readdirSync(join(runDir, 'roots')), []);
});

test('one request that is told in three forms, and once more, is one attach', async () => {
  const about = { instance: C1, volume: VOLUME, request: 'req-5' };
  const before = await bus.counters();
  await send(
    legacy('volume-attach', about),
    versioned('instance-volume_attach-end', about),
    cinder('volume-attach-end', about),
  );
  // The very same message: a redelivery, or a second topic.
  const body = bodyOf(legacy('volume-attach', about));
  await bus.publish(body, body);

  await until('all five are settled', async () => {
    const { handled, duplicate } = await bus.counters();
    return handled - before.handled === 4 && duplicate - before.duplicate === 1;
  });
  assert.equal((await only()).state, 'attached');
  assert.deepEqual(await bus.toldOf('req-5'), ['attach.start', 'attach.end']);

  const detach = { ...about, request: 'req-6' };
  await send(versioned('instance-volume_detach-start', detach), cinder('volume-detach-start', detach));
  await bus.untilTold('req-6', 'detach.end');
  await until('both are settled', async () => (await bus.counters()).handled - before.handled === 6);
  assert.deepEqual(await bus.toldOf('req-6'), ['detach.start', 'detach.end']);
  await ear.until(heard => heard.event_type === 'shiftvol.detach.end', never);
  await destroy(C1);
});

/** Each with what becomes of it: a dead letter with this reason, or ignored under this name. */
function badMessages() {
  const good = versioned('instance-volume_attach-end', { instance: C1, volume: VOLUME, request: 'req-bad' });
  const withData = (data: unknown) =>
    bodyOf({ ...good, payload: { ...Object(good.payload), 'nova_object.data': data } });
  const envelope = (version: string, message: string) =>
    JSON.stringify({ 'oslo.version': version, 'oslo.message': message });
  const about = { instance: uuidOf('nobody'), volume: VOLUME, request: 'req-nobody' };
  const gone = { instance: uuidOf('never ours'), request: 'req-not-ours' };
  return {
    dead: [
      ['not json', 'the body is not JSON'],
      [Buffer.alloc(2 ** 20, 'x'), 'the body is not JSON'],
      [Buffer.from([0xff, 0xfe, 0x00]), 'the body is not'],
      [envelope('3.0', '{}'), 'oslo.version "3.0"'],
      [envelope('2.0', '{'), 'oslo.message is not JSON'],
      [envelope('2.0', '[]'), 'oslo.message is no JSON object'],
      ['{"__proto__": {"event_type": "instance.delete.end"}}', 'event_type: Invalid input'],
      [bodyOf({ ...good, payload: null }), 'payload: Invalid input'],
      [withData({ uuid: C1 }), 'payload.nova_object.data.volume_id'],
      [withData({ uuid: 7, volume_id: {} }), 'payload.nova_object.data.uuid'],
      [withData({ uuid: '../../etc', volume_id: '; rm -rf /' }), 'payload.nova_object.data.uuid'],
      [versioned('instance-volume_attach-end', about), 'Cannot find instance'],
    ] as const,
    ignored: {
      'other-host': versioned('instance-volume_attach-end', { ...about, instance: C1, host: 'node2' }),
      'nothing-there': versioned('instance-delete-end', gone),
      'no-template': versioned('instance-create-start', { ...gone, image: uuidOf('image of another') }),
      'other-event': legacy('update', { instance: C1, request: 'req-bad' }),
    },
  };
}

test('bad messages are dead letters with their reason, or ignored and counted; the good one behind them is done', async () => {
  const before = await bus.counters();
  const { dead, ignored } = badMessages();
  await bus.publish(...dead.map(([body]) => body), ...Object.values(ignored));
  await bus.publish(versioned('instance-volume_attach-end', { instance: C1, volume: VOLUME, request: 'req-good' }));

  await bus.untilTold('req-good', 'attach.end', 5000);
  const { target } = await only();
  assert.equal(target, TARGET);
  await until('all are settled', async () => {
    const { dead: buried, ignored: counted } = await bus.counters();
    const all = Object.keys(ignored).every(
      why => counted[why as 'other-host'] === before.ignored[why as 'other-host'] + 1,
    );
    return all && buried === before.dead + dead.length;
  });
  const reasons: string[] = [];
  const channel = await bus.channel();
  for (let message = await channel.get('shiftvol.dead', { noAck: true }); message; ) {
    reasons.push(String(message.properties.headers?.['x-shiftvol-reason']));
    assert.ok(!JSON.stringify(message.properties).includes(SECRET));
    message = await channel.get('shiftvol.dead', { noAck: true });
  }
  assert.equal(reasons.length, dead.length);
  for (const [, reason] of dead)
    assert.ok(
      reasons.some(r => r.startsWith(reason)),
      `${reason} in ${reasons.join(' | ')}`,
    );
  // Neither each try is told, nor that a machine which was never ours has come or gone.
  assert.deepEqual(await bus.toldOf('req-nobody'), ['attach.error']);
  assert.deepEqual(await bus.toldOf('req-not-ours'), []);
  await ear.until(
    heard => heard.payload['request_id'] === `attach/${C1}/${VOLUME}/req-good` && heard.event_type.endsWith('end'),
    never,
  );
  await until('nothing is said any more', async () => (await bus.health()).listen[0]?.working === 0);
  await bus.publish(versioned('instance-delete-end', { instance: C1, request: 'req-end' }));
  await bus.untilTold('req-end', 'destroy.end');
  await assertListIsTrue(bus.world, []);
  await assertHostUnchanged(clean);
});

test('a queue that is deleted under the agent is said to be gone, and is there again', async () => {
  const channel = await bus.channel();
  await channel.deleteQueue('shiftvol.node1');

  await until('it is known', async () => (await bus.health()).listen[0]?.subscribed === false);
  assert.equal((await bus.health()).healthy, false);
  await bus.listening();
  channel.publish(
    'nova',
    'notifications.info',
    bodyOf(legacy('volume-attach', { instance: C1, volume: VOLUME, request: 'req-7' })),
    JSON_PROPERTIES,
  );
  await bus.untilTold('req-7', 'attach.end');
  await bus.publish(versioned('instance-delete-end', { instance: C1, request: 'req-8' }));
  await bus.untilTold('req-8', 'destroy.end');
  await assertHostUnchanged(clean);
});

test('no password, token or payload is in the log, the results or the journal', async () => {
  await bus.assertNoSecret();
});
