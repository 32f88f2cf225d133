/** A thousand boots at once, told by notifications, while the broker restarts and the agent dies: each is done, and done once. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { loopsInUse } from '../../src/mount/loops.ts';
import { readMountinfo } from '../../src/mount/mountinfo.ts';
import { list } from '../e2e/ask.ts';
import { BusWorld, IMAGE, uuidOf } from '../e2e/bus-world.ts';
import { versioned } from '../e2e/notes.ts';
import type { Agent } from '../e2e/world.ts';
import { until } from '../integration/bus/helpers.ts';
import { emit } from '../rig/oslo/peers.ts';

const COUNT = 1000;
/** A second. A real cloud's are fewer; faster than the agent works they wait in the broker. */
const RATE = 200;
const LIMIT_MS = 600_000;
const instances = Array.from({ length: COUNT }, (_, i) => uuidOf(`burst-${i}`));

let bus: BusWorld;
let agent: Agent | undefined;

before(async () => {
  bus = await BusWorld.make({ durable: true });
  await serve();
});
after(async () => {
  await agent?.[Symbol.asyncDispose]();
  await bus?.[Symbol.asyncDispose]();
});

test(`${COUNT} boots, with the broker restarted and the agent killed in the middle: none is lost, none is done twice`, {
  timeout: LIMIT_MS,
}, async t => {
  const began = performance.now();
  const notes = instances.map((instance, i) => versioned('instance-create-start', { instance, request: `req-${i}` }));

  const emitting = emit(`${bus.rabbit.url}?amqp_durable_queues=true`, notes, { rate: RATE });
  await until('a fifth is done', () => mounted() >= COUNT / 5, 120_000);
  await bus.stopRabbit();
  await bus.rabbit.start();
  await until('two fifths are done', () => mounted() >= (2 * COUNT) / 5, 120_000);
  await agent?.kill('SIGKILL');
  await serve();
  const sent = await emitting;
  await until('all are begun', () => mounted() === COUNT, 300_000);
  await until('nobody waits any more', async () => (await bus.depth()) === 0 && (await attached()).length === COUNT);
  const seconds = (performance.now() - began) / 1000;

  assert.deepEqual(sent, { sent: COUNT, failed: 0 });
  const done = await attached();
  assert.deepEqual(done.map(a => a.instance).toSorted(), instances.toSorted());
  await until('all ends are told', async () => (await ends('spawn.end')).size === COUNT);
  const told = await ends('spawn.end');
  for (const [instance, times] of told) assert.equal(times, 1, `${instance} was told ${times} times`);
  // On the host: one image, one loop device, one mount each.
  const { runDir, poolDir } = bus.world;
  assert.equal(readMountinfo('/proc').filter(m => m.point.startsWith(`${join(runDir, 'roots')}/`)).length, COUNT);
  assert.equal(loopsInUse('/sys').filter(loop => loop.backingFile.startsWith(`${poolDir}/`)).length, COUNT);
  t.diagnostic(`${seconds.toFixed(1)} s, ${(COUNT / seconds).toFixed(0)} a second, outages included`);
});

test('and all of them are deleted again, of which nothing is left', { timeout: LIMIT_MS }, async t => {
  const began = performance.now();
  const notes = instances.map((instance, i) => versioned('instance-delete-end', { instance, request: `bye-${i}` }));

  await emit(`${bus.rabbit.url}?amqp_durable_queues=true`, notes);
  await until('all directories are gone', () => mounted() === 0, 300_000);
  await until('all are forgotten', async () => (await list(bus.world)).length === 0);

  const { poolDir } = bus.world;
  await until('the loop devices are free', async () =>
    loopsInUse('/sys').every(loop => !loop.backingFile.startsWith(`${poolDir}/`)),
  );
  t.diagnostic(`${((performance.now() - began) / 1000).toFixed(1)} s`);
});

/** Ids for a thousand at once: each gets less of them than a whole container has. */
async function serve(): Promise<void> {
  const exchanges = [{ exchange: 'nova', topics: ['versioned_notifications'] }];
  const config = {
    id_range_size: 4096,
    bus: {
      listen: [bus.rabbit.url],
      exchanges,
      events: { durable: true, queue: 'results' },
      rebind_ms: 100,
      reconnect: { min_ms: 200, max_ms: 1000 },
    },
    bindings: { images: [{ image: IMAGE, template: 'busybox' }] },
  };
  agent = await bus.world.agent(JSON.stringify(config));
  await bus.listening();
}

const attached = async () => (await list(bus.world)).filter(a => a.state === 'attached');
/** Without asking the agent, which has other things to do. */
const mounted = () => readdirSync(join(bus.world.runDir, 'roots')).length;

/** How often it was told of each instance. */
async function ends(name: string): Promise<ReadonlyMap<string, number>> {
  const times = new Map<string, number>();
  for (const { event_type, payload } of await bus.told())
    if (event_type === `shiftvol.${name}`) {
      const instance = String(payload['instance_uuid']);
      times.set(instance, (times.get(instance) ?? 0) + 1);
    }
  return times;
}
