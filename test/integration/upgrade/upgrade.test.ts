/**
 * An upgrade and the way back, under 50 attachments that are written to, while Nova and a client go on asking: no mount is touched, the
 * journal is migrated, nothing that was asked for is lost. And the way back where it needs the kept copy, as deploy/README.md says it.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { readMountinfo } from '../../../src/mount/mountinfo.ts';
import { list } from '../../e2e/ask.ts';
import { BusWorld, uuidOf } from '../../e2e/bus-world.ts';
import { assertListIsTrue } from '../../e2e/consistent.ts';
import { launchAll } from '../../e2e/launch.ts';
import type { Agent } from '../../e2e/world.ts';
import { deployBlock } from '../../rig/deploy-blocks.ts';
import { assertHostUnchanged, type HostState, hostState } from '../../rig/host.ts';
import { until } from '../bus/helpers.ts';
import { makePrograms, type Program, type Programs } from './programs.ts';
import { attachOf, Client, Notifications, startWriters, stopWriters, TARGETS } from './traffic.ts';

const CONTAINERS = Array.from({ length: 5 }, (_, i) => `u${i}`);
/** From this version on a journal says who may work on it, and a refusal names the copy to go back to. */
const SAYS_OLDEST = 3;
let programs: Programs;
let bus: BusWorld;
let client: Client;
let notifications: Notifications;
let agent: Agent;
let clean: HostState;
let mounts: readonly string[];

before(async () => {
  programs = makePrograms();
  bus = await BusWorld.make({ durable: false });
  await launchAll(bus.world.lxd, CONTAINERS, name => ({ 'user.nova_uuid': uuidOf(name) }));
  agent = await bus.serve({}, { program: programs.before.argv });
  clean = hostState(bus.world.dir);
  client = new Client(bus);
  const places = CONTAINERS.flatMap(name => TARGETS.map(target => [uuidOf(name), target] as const));
  await Promise.all(places.map(([ref, target]) => client.ask(attachOf(ref, target, `first-${ref}-${target}`))));
  await Promise.all(CONTAINERS.map(name => startWriters(bus.world.lxd, name)));
  mounts = await mountsNow();
  assert.equal(mounts.length, 100, 'fifty on the host, each once more in its container');
  notifications = new Notifications(bus, CONTAINERS.map(uuidOf));
  client.start(uuidOf('u0'));
});
after(async () => {
  await client?.end().catch(() => undefined); // it has failed with its test
  await bus?.[Symbol.asyncDispose]();
  programs?.[Symbol.dispose]();
});

/** Those of the fifty, with what the kernel calls them, on the host and inside. */
async function mountsNow(): Promise<readonly string[]> {
  const of = (pid: number | string, where: string, prefix: string, keep: (point: string) => boolean) =>
    readMountinfo('/proc', pid)
      .filter(m => m.point.startsWith(prefix) && keep(m.point))
      .map(m => `${where} ${m.mountId} ${m.devno} ${m.point} ${m.options.join(',')}`);
  const first = (await list(bus.world)).filter(a => TARGETS.includes(a.target));
  const paths = new Set(first.filter(a => a.state === 'attached').map(a => a.hostPath));
  const host = of('self', 'host', bus.world.runDir, point => paths.has(point));
  const inside = await Promise.all(
    CONTAINERS.map(async name =>
      of(await bus.world.lxd.initPid(name), name, '/mnt/', point => TARGETS.includes(point)),
    ),
  );
  return [...host, ...inside.flat()].toSorted();
}

const journal = () => join(bus.world.stateDir, 'journal.db');
/** Of the file, while nobody works on it. */
function schemaOf(path: string): number {
  using db = new DatabaseSync(path, { readOnly: true });
  return Number(db.prepare('PRAGMA user_version').get()?.['user_version']);
}

/** Eight requests are on their way when it is told to stop. Returns how long nobody answered, in milliseconds, and the journal's version between. */
async function change(to: Program, name: string): Promise<{ readonly ms: number; readonly between: number }> {
  const targets = ['a', 'b'].map(side => `/mnt/${name}-${side}`);
  const burst = CONTAINERS.slice(1).flatMap(container =>
    targets.map(target => client.ask(attachOf(uuidOf(container), target, `${container}-${target}`))),
  );
  const isBegun = async () => (await list(bus.world)).some(a => targets.includes(a.target));
  await until('the first of them has begun', isBegun);
  const began = performance.now();
  await agent.kill('SIGTERM');
  const between = schemaOf(journal());
  agent = await bus.serve({}, { program: to.argv });
  const ms = Math.round(performance.now() - began);
  await Promise.all(burst);
  const done = (await list(bus.world)).filter(a => targets.includes(a.target) && a.state === 'attached');
  assert.equal(done.length, 8);
  return { ms, between };
}

test('to the version after: every mount is the same, the journal is migrated, a copy of it is kept', async t => {
  const { ms, between } = await change(programs.after, 'up');

  assert.equal(between, programs.before.schema);
  assert.deepEqual(await mountsNow(), mounts);
  assert.equal(schemaOf(join(bus.world.stateDir, `journal.v${between}.db`)), between);
  t.diagnostic(`told to stop until the next one is subscribed: ${ms} ms`);
});

test('and back: every mount is the same, and what was done since is known', async t => {
  // A program of a time when no journal said who may work on it goes back by the copy alone.
  if (programs.before.schema < SAYS_OLDEST) return t.skip('it cannot: see the last test');
  const { ms, between } = await change(programs.before, 'back');

  assert.equal(between, programs.after.schema);
  assert.deepEqual(await mountsNow(), mounts);
  t.diagnostic(`told to stop until the next one is subscribed: ${ms} ms`);
});

test('nothing that Nova told, a client asked or a container wrote was lost', async t => {
  await client.end();
  const told = await notifications.end();
  const written = (await Promise.all(CONTAINERS.map(name => stopWriters(bus.world.lxd, name)))).flat();

  assert.deepEqual(await mountsNow(), mounts);
  await assertListIsTrue(bus.world, await list(bus.world));
  assert.ok(Math.min(...written) > 10);
  // Nobody there, the connection closed, or undone since the agent ends: each can be asked again.
  for (const refusal of client.refusals) assert.match(refusal, /^(?:nobody|SV_CANCELLED)$/);
  t.diagnostic(
    `${told} notifications, ${client.done} requests (asked again: ${client.refusals.length}), ${written.reduce((a, b) => a + b, 0) * 5} lines written`,
  );
});

test('where the version before cannot work with the journal it says so; by the kept copy it goes back, and leaves what it does not know', async () => {
  const { stateDir } = bus.world;
  const known = await mountsNow();
  await agent.kill('SIGTERM');
  agent = await bus.serve({}, { program: programs.changed.argv });
  await client.ask(attachOf(uuidOf('u1'), '/mnt/since', 'since'));
  await agent.kill('SIGTERM');

  const refusal =
    programs.before.schema < SAYS_OLDEST ? /Cannot open the journal/ : /Cannot open the journal .*journal\.v\d+\.db/;
  await assert.rejects(bus.serve({}, { program: programs.before.argv }), refusal);
  goBack(stateDir, programs.before.schema);
  agent = await bus.serve({}, { program: programs.before.argv });

  assert.deepEqual(await mountsNow(), known);
  assert.match(agent.log(), /not in the journal, left alone/);
  assert.equal((await list(bus.world)).filter(a => a.target === '/mnt/since').length, 0);
  await bus.world.lxd.sh('u1', 'test -e /mnt/since/d0000/f0');

  // With the journal that was kept, the newer one knows it again.
  await agent.kill('SIGTERM');
  execFileSync('sh', ['-ec', 'rm -f journal.db*; mv journal.newer.db journal.db'], { cwd: stateDir });
  agent = await bus.serve({}, { program: programs.changed.argv });
  assert.equal((await list(bus.world)).filter(a => a.target === '/mnt/since').length, 1);
});

/** The commands of deploy/README.md. */
function goBack(stateDir: string, version: number): void {
  const places = { '/var/lib/shiftvol': stateDir, 'journal.v3.db': `journal.v${version}.db` };
  const script = deployBlock('back by the copy', places).replace(/^systemctl .*\n/gm, '');
  execFileSync('sh', ['-ec', script]);
  assert.ok(existsSync(join(stateDir, 'journal.newer.db')));
}

test('all of it goes at the end', async () => {
  const instances = CONTAINERS.map(name => ({ ref: uuidOf(name) }));
  await Promise.all(instances.map(instance => client.ask({ action: 'destroy', instance, lazy: false })));
  assert.deepEqual(await list(bus.world), []);
  await assertListIsTrue(bus.world, []);
  await assertHostUnchanged({ ...clean, files: hostState(bus.world.dir).files });
});
