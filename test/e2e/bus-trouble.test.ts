/** What goes wrong around the agent: the broker is away, the agent is killed or stopped in the middle of work. Nothing is lost or doubled. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readMountinfo } from '../../src/mount/mountinfo.ts';
import { until } from '../integration/bus/helpers.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { emit, type Note } from '../rig/oslo/peers.ts';
import { startProxy } from '../rig/proxy.ts';
import { list } from './ask.ts';
import { BusWorld, uuidOf } from './bus-world.ts';
import { assertListIsTrue } from './consistent.ts';
import { launchAll } from './launch.ts';
import { versioned } from './notes.ts';

const NAMES = ['b1', 'b2', 'b3', 'b4', 'b5', 'b6', 'b7', 'b8'] as const;
/** Odd: the last one is an attach. */
const EVENTS_EACH = 25;
const RATE = 50;
const VOLUME = uuidOf('volume');
let bus: BusWorld;
let clean: HostState;

before(async () => {
  bus = await BusWorld.make({ durable: true });
  await launchAll(bus.world.lxd, NAMES, name => ({ 'user.nova_uuid': uuidOf(name) }));
  await (await bus.serve()).kill('SIGTERM');
  clean = hostState(bus.world.dir);
});
after(async () => await bus?.[Symbol.asyncDispose]());

const attach = (name: string, request: string): Note =>
  versioned('instance-volume_attach-end', { instance: uuidOf(name), volume: VOLUME, request });
const detach = (name: string, request: string): Note =>
  versioned('instance-volume_detach-start', { instance: uuidOf(name), volume: VOLUME, request });

async function destroyAll(names: readonly string[], round: string): Promise<void> {
  const request = (name: string) => `req-${round}-delete-${name}`;
  await bus.publish(
    ...names.map(name => versioned('instance-delete-end', { instance: uuidOf(name), request: request(name) })),
  );
  for (const name of names) await bus.untilTold(request(name), 'destroy.end');
  assert.deepEqual(await list(bus.world), []);
  await assertListIsTrue(bus.world, []);
  await assertHostUnchanged(clean);
}

test('an agent that starts before its broker says so, and does what comes when the broker is there', async () => {
  await bus.stopRabbit();
  await using agent = await bus.serve({}, { wait: false });
  await until('it has tried', () => agent.log().includes('the broker cannot be used'));
  const { healthy, listen, publisher } = await bus.health();
  assert.deepEqual([healthy, listen[0]?.subscribed, publisher.ready], [false, false, false]);

  await bus.rabbit.start();
  await bus.listening();
  await bus.publish(attach('b1', 'req-early'));
  await bus.untilTold('req-early', 'attach.end');
  assert.equal(await bus.world.lxd.sh('b1', `stat -c %u /mnt/${VOLUME}/d0000/f0`), '1000');
  await destroyAll(['b1'], 'early');
});

test('an agent killed after the journal has it and before the broker hears so does it once', async () => {
  await using proxy = await startProxy(bus.rabbit.port);
  const over = { listen: [`rabbit://guest:guest@127.0.0.1:${proxy.port}/`], url: bus.rabbit.url };
  const before = await bus.serve(over);
  proxy.swallow();
  await bus.publish(attach('b1', 'req-kill'));
  await bus.untilTold('req-kill', 'attach.end');
  await until('it is acknowledged, as the agent sees it', async () => (await bus.counters()).handled === 1);
  const [attached] = await list(bus.world);
  await before.kill('SIGKILL');

  await using _again = await bus.serve();
  await until('it came again', async () => (await bus.counters()).handled === 1);
  assert.equal(await bus.depth(), 0);
  assert.deepEqual(await list(bus.world), [attached]);
  assert.deepEqual(await bus.toldOf('req-kill'), ['attach.start', 'attach.end']);
  await assertListIsTrue(bus.world, await list(bus.world));
  await destroyAll(['b1'], 'kill');
});

test('an agent that is asked to stop in the middle of work ends what it has begun, and the next one goes on', async t => {
  const asked = NAMES.flatMap(name =>
    ['x', 'y', 'z'].map(volume => ({ name, volume: uuidOf(volume), request: `req-stop-${name}-${volume}` })),
  );
  const stopped = await bus.serve({ prefetch: 3 });
  await bus.publish(
    ...asked.map(({ name, volume, request }) =>
      versioned('instance-volume_attach-end', { instance: uuidOf(name), volume, request }),
    ),
  );
  await until('some are done', async () => (await list(bus.world)).some(a => a.state === 'attached'));
  await stopped.kill('SIGTERM');
  assert.equal(stopped.process.exitCode, 0);
  const mounted = readMountinfo('/proc').filter(m => m.point.startsWith(`${bus.world.runDir}/`)).length;
  assert.ok(mounted > 0 && mounted < asked.length, `${mounted} of ${asked.length} are mounted`);
  t.diagnostic(`${mounted} of ${asked.length} were attached when it had stopped`);

  await using _next = await bus.serve();
  await bus.untilAttached(asked.length);
  for (const { name, volume, request } of asked) {
    await bus.untilTold(request, 'attach.end');
    assert.deepEqual(await bus.toldOf(request), ['attach.start', 'attach.end']);
    assert.equal(await bus.world.lxd.sh(name, `stat -c %u /mnt/${volume}/d0000/f0`), '1000');
  }
  await assertListIsTrue(bus.world, await list(bus.world));
  await destroyAll(NAMES, 'stop');
});

test('a volume in use is detached when it is let go, unless it was attached again before', async () => {
  await using agent = await bus.serve({ retry: { delay_ms: 300, attempts: 50 } });
  const hold = `cd /mnt/${VOLUME} && (sleep 1000 >/dev/null 2>&1 & echo $! > /tmp/holder)`;
  await bus.publish(attach('b1', 'req-use-1'));
  await bus.untilTold('req-use-1', 'attach.end');
  await bus.world.lxd.sh('b1', hold);
  await bus.publish(detach('b1', 'req-use-2'));
  await bus.untilTold('req-use-2', 'detach.error');
  const error = (await bus.told()).find(told => told.event_type === 'shiftvol.detach.error')?.payload['error'];
  assert.match(JSON.stringify(error), /SV_BUSY.*sleep/);
  await bus.world.lxd.sh('b1', 'kill $(cat /tmp/holder)');
  await bus.untilTold('req-use-2', 'detach.end');
  assert.equal(await bus.world.lxd.sh('b1', `grep -c ${VOLUME} /proc/mounts || true`), '0');

  await bus.publish(attach('b1', 'req-use-3'));
  await bus.untilTold('req-use-3', 'attach.end');
  await bus.world.lxd.sh('b1', hold);
  await bus.publish(detach('b1', 'req-use-4'));
  await bus.untilTold('req-use-4', 'detach.error');
  await bus.publish(attach('b1', 'req-use-5'));
  await bus.world.lxd.sh('b1', 'kill $(cat /tmp/holder)');
  await until('the detach is void', async () => (await bus.counters()).ignored.superseded === 1);
  assert.equal(await bus.world.lxd.sh('b1', `stat -c %u /mnt/${VOLUME}/d0000/f0`), '1000', agent.log());
  await destroyAll(['b1'], 'use');
});

test('a broker that is stopped and started in the middle of 200 events: none is lost, none is done twice', async t => {
  await using agent = await bus.serve();
  const events = Array.from({ length: EVENTS_EACH }, (_, i) =>
    NAMES.map(name => ({ name, request: `req-${i}-${name}`, action: i % 2 === 0 ? 'attach' : 'detach' })),
  ).flat();
  const notes = events.map(({ name, request, action }) => (action === 'attach' ? attach : detach)(name, request));

  const emitting = emit(`${bus.rabbit.url}?amqp_durable_queues=true`, notes, { rate: RATE });
  await until('a third is done', async () => (await bus.counters()).handled >= events.length / 3);
  await bus.stopRabbit();
  await until('the loss is known', async () => !(await bus.health()).healthy);
  const { listen } = await bus.health();
  assert.equal(listen[0]?.subscribed, false);
  await bus.rabbit.start();

  assert.deepEqual(await emitting, { sent: events.length, failed: 0 });
  for (const { request, action } of events) await bus.untilTold(request, `${action}.end`);
  const told = await bus.told();
  for (const { request, action } of events)
    assert.deepEqual(
      told.filter(e => e._context_request_id === request).map(e => e.event_type),
      [`shiftvol.${action}.start`, `shiftvol.${action}.end`],
      `${request}\n${agent.log()}`,
    );
  const counters = await bus.counters();
  t.diagnostic(`handled ${counters.handled}, known again ${counters.duplicate}, received ${counters.received}`);
  assert.deepEqual([counters.dead, counters.retried], [0, 0]);
  const now = await list(bus.world);
  assert.deepEqual(
    now.map(a => a.state),
    NAMES.map(() => 'attached'),
  );
  await assertListIsTrue(bus.world, now);
  await destroyAll(NAMES, 'outage');
});

test('no secret is told, not even when the broker refuses the password', async () => {
  const [wrong, right] = [
    `guest:Falsches-Gr0ssesGeheimnis@127.0.0.1:${bus.rabbit.port}`,
    `guest:guest@127.0.0.1:${bus.rabbit.port}`,
  ];
  await using agent = await bus.serve({
    listen: [`rabbit://${wrong},${wrong},${wrong},${right}/?secret=Gr0ssesGeheimnis`],
  });
  assert.match(agent.log(), /ACCESS_REFUSED|access refused|Handshake/i);
  await bus.assertNoSecret();
});
