/** Notifications alone, beside a compute driver that is not ours: two agents on one broker, and a volume that both hosts reach. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import type { BusStatus } from '../../src/bus/service.ts';
import { socketPath } from '../../src/cli/engine-client.ts';
import { bodyOf, JSON_PROPERTIES, rawChannel, until } from '../integration/bus/helpers.ts';
import type { Note } from '../rig/oslo/peers.ts';
import { type Rabbit, startRabbit } from '../rig/rabbit.ts';
import { makeTreeImage } from '../rig/tree.ts';
import { list } from './ask.ts';
import { uuidOf } from './bus-world.ts';
import { makeTwoHosts, type TwoHosts } from './migrate-world.ts';
import { type About, cinder, versioned } from './notes.ts';
import type { Agent, World } from './world.ts';

const INSTANCE = uuidOf('migrate-events');
const VOLUME = uuidOf('migrate-events-volume');
const TARGET = `/mnt/${VOLUME}`;
const QUICK = { rebind_ms: 100, retry: { delay_ms: 300, attempts: 40 } };

let hosts: TwoHosts;
let rabbit: Rabbit;
let dir: string;
let raw: Awaited<ReturnType<typeof rawChannel>>;
const agents: Agent[] = [];

before(async () => {
  [hosts, rabbit] = await Promise.all([makeTwoHosts(), startRabbit()]);
  dir = mkdtempSync(join(tmpdir(), 'shiftvol-shared-'));
  await makeTreeImage(join(dir, `${VOLUME}.img`), { files: 50, fsType: 'ext4', sizeBytes: 64 * 2 ** 20 });
  raw = await rawChannel(rabbit.url);
  for (const name of ['nova', 'openstack']) await raw.channel.assertExchange(name, 'topic', { durable: false });
  await hosts.a.lxd.launch('i1', { 'user.nova_uuid': INSTANCE });
  await hosts.b.lxd.launch('i1', {
    'user.nova_uuid': INSTANCE,
    'security.idmap.base': '9568256',
    'security.idmap.size': '65536',
  });
  for (const [world, host, subid_owner] of [
    [hosts.a, 'node1', 'shiftvol'],
    [hosts.b, 'node2', 'shiftvol-b'],
  ] as const) {
    const exchanges = ['nova', 'openstack'].map(exchange => ({ exchange, topics: ['notifications'] }));
    const bindings = { volumes: [{ volume: '*', file: join(dir, '{volume_id}.img') }] };
    const bus = { listen: [rabbit.url], exchanges, ...QUICK };
    const agent = await world.agent(JSON.stringify({ host, subid_owner, bus, bindings }));
    agents.push(agent);
  }
  for (const { runDir } of [hosts.a, hosts.b]) await until('it listens', () => isListening(runDir));
});
after(async () => {
  for (const agent of agents) await agent[Symbol.asyncDispose]();
  await raw?.[Symbol.asyncDispose]();
  await rabbit?.[Symbol.asyncDispose]();
  await hosts?.[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

/** All that it wants to hear is bound. */
async function isListening(runDir: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const asked = request({ socketPath: socketPath(runDir), path: '/v1/health', agent: false }, response => {
    text(response).then(resolve, reject);
  });
  asked.once('error', reject).end();
  const { healthy, listen }: BusStatus = JSON.parse(await promise).result.bus;
  return healthy && listen.every(l => Object.values(l.exchanges).every(state => state === 'bound'));
}

/** What an instance got after it was told is none of it. */
function sentNow(note: Note): Buffer {
  const outer = JSON.parse(bodyOf(note).toString());
  const inner = JSON.parse(outer['oslo.message']);
  const timestamp = new Date().toISOString().replace('T', ' ').replace('Z', '');
  return Buffer.from(JSON.stringify({ ...outer, 'oslo.message': JSON.stringify({ ...inner, timestamp }) }));
}

/** To every host's queue, as Nova and Cinder do. */
async function publish(...notes: readonly Note[]): Promise<void> {
  for (const note of notes) raw.channel.publish('nova', 'notifications.info', sentNow(note), JSON_PROPERTIES);
  await raw.channel.waitForConfirms();
}
const about = (request: string, host: string): About => ({ instance: INSTANCE, volume: VOLUME, request, host });
const attached = async (world: World) => (await list(world)).filter(a => a.state === 'attached').length;
/** One that is being detached is not off yet: its loop device may be there still. */
const isOff = async (world: World) => (await list(world)).length === 0;
const untilOn = (here: World, gone: World) =>
  until('it is there, and only there', async () => (await attached(here)) === 1 && (await isOff(gone)));
const sh = (world: World, script: string) => world.lxd.sh('i1', script);
const baseOf = async (world: World) => (await list(world))[0]?.extents[0]?.hostId;

test('a cold migration: off at the source, on at the destination with its map; what comes after takes nothing away', async () => {
  const { a, b } = hosts;
  await publish(cinder('volume-attach-end', about('req-1', 'node1')));
  await untilOn(a, b);
  await sh(a, `echo mine > ${TARGET}/mine; chown 1000:1000 ${TARGET}/mine`);
  const before = await baseOf(a);

  await publish(cinder('volume-detach-start', about('req-2', 'node1')));
  await until('it is off', () => isOff(a));
  await publish(cinder('volume-attach-end', about('req-2', 'node2')));
  await untilOn(b, a);
  // Told by the source, of an instance that is on the other host by now.
  await publish({
    ...versioned('instance-resize_confirm-end', about('req-3', 'node2')),
    publisher_id: 'nova-compute:node1',
  });
  await publish(
    versioned('instance-power_off-end', about('req-4', 'node2')),
    versioned('instance-shelve-end', about('req-5', 'node2')),
  );

  assert.equal(await sh(b, `stat -c %u:%g ${TARGET}/mine; stat -c %u ${TARGET}/d0000/f4`), '1000:1000\n1000');
  assert.notEqual(await baseOf(b), before);
  await untilOn(b, a);
});

test('a volume whose detach says nothing of its host is let go of when the live migration is over, or the instance offloaded', async () => {
  const { a, b } = hosts;
  await publish(versioned('instance-live_migration_post-end', about('req-6', 'node2')));
  await until('it is off', () => isOff(b));
  await publish(cinder('volume-attach-end', about('req-7', 'node1')));
  await untilOn(a, b);
  await publish(versioned('instance-shelve_offload-end', about('req-8', 'node1')));
  await until('it is off', () => isOff(a));
});

test('while a process of the old container is in it, it stays, and it goes when that ends', async () => {
  const { a, b } = hosts;
  await publish(cinder('volume-attach-end', about('req-9', 'node1')));
  await untilOn(a, b);
  await sh(a, `cd ${TARGET} && (sleep 3 >/dev/null 2>&1 &)`);
  await publish(versioned('instance-live_migration_post-end', about('req-10', 'node1')));
  await until('it was tried', async () => /SV_BUSY|busy|uses/.test(agents[0]?.log() ?? ''));
  assert.equal(await attached(a), 1);
  await until('it is off', () => isOff(a));
});

test('an evacuation: the host that was down lets go when it hears of it', async () => {
  const { a, b } = hosts;
  await publish(cinder('volume-attach-end', about('req-11', 'node1')));
  await untilOn(a, b);
  await agents[0]?.kill('SIGKILL');
  // Told by the new host of one that it has taken from the dead one.
  await publish({ ...versioned('instance-rebuild-end', about('req-12', 'node1')), publisher_id: 'nova-compute:node2' });
  assert.equal(await attached(b), 0);
  const config = join(a.dir, 'plugin.yaml');
  agents[0] = await a.agent(readFileSync(config, 'utf8'));
  await until('it is off', () => isOff(a));
});
