/** Many containers at once: the same template in each, and none sees another's. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Host } from '../../src/cli/assemble.ts';
import type { Command, Outcome } from '../../src/engine/model.ts';
import { viewOf } from '../../src/http/view.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { assertListIsTrue } from './consistent.ts';
import { launchAll } from './launch.ts';
import { makeWorld, type World } from './world.ts';

const CONTAINERS = Array.from({ length: 50 }, (_, i) => `m${i}`);
const never = new AbortController().signal;
let world: World;
let host: Host;
let clean: HostState;

before(async () => {
  world = await makeWorld();
  await world.addTemplate('web', { files: 20 });
  await launchAll(world.lxd, CONTAINERS);
  host = await world.engine();
  clean = hostState(world.dir);
});
after(async () => {
  await host?.[Symbol.asyncDispose]();
  await world?.[Symbol.asyncDispose]();
});

/** All at once: how many of them run at a time is the engine's business. */
const all = (commands: readonly Command[]): Promise<Outcome[]> =>
  Promise.all(commands.map(command => host.engine.execute(command, never)));
const attach = (ref: string, target: string): Command => ({
  action: 'attach',
  instance: { ref },
  target,
  source: { kind: 'template', template: 'web' },
  readOnly: false,
});
const detach = (ref: string, target: string): Command => ({ action: 'detach', instance: { ref }, target, lazy: false });
const destroy = (ref: string): Command => ({ action: 'destroy', instance: { ref }, lazy: false });

/** stdout of a script in each container; a few at a time. */
async function inEach(names: readonly string[], script: (name: string) => string): Promise<Map<string, string>> {
  const results = new Map<string, string>();
  const waiting = [...names];
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift())
      results.set(name, await world.lxd.sh(name, script(name)));
  };
  await Promise.all(Array.from({ length: 4 }, worker));
  return results;
}

async function assertNothing(): Promise<void> {
  assert.deepEqual(host.engine.list(), []);
  await assertListIsTrue(world, []);
  await assertHostUnchanged(clean);
}

test('one template in 50 containers at once: owners are right in each, and none sees what another writes', async t => {
  const started = performance.now();
  const outcomes = await all(CONTAINERS.map(name => attach(name, '/mnt/data')));
  t.diagnostic(`50 attaches in ${Math.round(performance.now() - started)} ms`);

  const bases = outcomes.map(({ attachments: [a] }) => a?.plan.idmap.find(e => e.kind === 'uid')?.hostId);
  assert.equal(new Set(bases).size, CONTAINERS.length, 'a range of its own for each');
  await assertListIsTrue(world, host.engine.list().map(viewOf));
  await inEach(CONTAINERS, name => `cd /mnt/data && echo ${name} > by-${name} && echo ${name} > d0000/f1`);
  const seen = await inEach(
    CONTAINERS,
    () => 'cd /mnt/data && echo by-* && cat by-* d0000/f1 && stat -c %u:%g . d0000/f0 d0000/f1 by-*',
  );
  for (const name of CONTAINERS)
    assert.equal(seen.get(name), [`by-${name}`, name, name, '0:0', '1000:1000', '0:0', '0:0'].join('\n'));

  await all(CONTAINERS.map(name => detach(name, '/mnt/data')));
  await assertListIsTrue(world, host.engine.list().map(viewOf));
  await all(CONTAINERS.map(destroy));
  await assertNothing();
});

test('64 attaches to 16 containers at once all succeed', async t => {
  const places = CONTAINERS.slice(0, 16).flatMap(name =>
    ['a', 'b', 'c', 'd'].map(dir => ({ name, target: `/mnt/${dir}` })),
  );
  const started = performance.now();
  const outcomes = await all(places.map(({ name, target }) => attach(name, target)));
  t.diagnostic(`64 attaches in ${Math.round(performance.now() - started)} ms`);

  assert.ok(outcomes.every(({ changed, attachments: [a] }) => changed && a?.status.state === 'attached'));
  await assertListIsTrue(world, host.engine.list().map(viewOf));
  const seen = await inEach(CONTAINERS.slice(0, 16), () => 'stat -c %u /mnt/?/d0000/f0 | tr -d "\\n"');
  for (const owners of seen.values()) assert.equal(owners, '1000'.repeat(4));

  await all(CONTAINERS.slice(0, 16).map(destroy));
  await assertNothing();
});
