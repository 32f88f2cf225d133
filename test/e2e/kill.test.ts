/** The agent is killed at random moments in bursts of work. Afterwards each request has happened once, and the list tells the truth. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from '../../src/engine/model.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { type Answer, execute, list } from './ask.ts';
import { assertListIsTrue } from './consistent.ts';
import { makeWorld, type World } from './world.ts';

const KILLS = Number(process.env['SHIFTVOL_TEST_KILLS'] ?? 100);
const CONTAINERS = ['k1', 'k2', 'k3'] as const;
const TARGETS = ['/mnt/a', '/mnt/b'] as const;
const SPAWNS = ['s1', 's2'] as const;
type Kept = 'attached' | 'detached' | 'none';

let world: World;
let clean: HostState;

before(async () => {
  world = await makeWorld();
  await world.addTemplate('web', { files: 20 });
  for (const name of CONTAINERS) await world.lxd.launch(name);
  await (await world.agent()).kill('SIGTERM');
  clean = hostState(world.dir);
});
after(async () => await world?.[Symbol.asyncDispose]());

/** A number generator with a seed: a failure can be had again. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return state / 0x7fffffff;
  };
}

/** What to ask next of one place, by what it holds: every change there is, in turn. */
function next(place: string, kept: Kept, requestId: string, chance: number): { command: Command; becomes: Kept } {
  const [ref = '', target] = place.split(':');
  const instance = { ref };
  const common = { instance, requestId };
  if (target === undefined)
    return kept === 'attached'
      ? { command: { ...common, action: 'destroy', lazy: false }, becomes: 'none' }
      : { command: { ...common, action: 'spawn', template: 'web' }, becomes: 'attached' };
  if (kept === 'attached')
    return { command: { ...common, action: 'detach', target, lazy: false }, becomes: 'detached' };
  if (kept === 'detached' && chance < 0.5)
    return { command: { ...common, action: 'destroy', target, lazy: false }, becomes: 'none' };
  return {
    command: { ...common, action: 'attach', target, source: { kind: 'template', template: 'web' }, readOnly: false },
    becomes: 'attached',
  };
}

test(`the agent is killed ${KILLS} times; every request happens once, and nothing is left over`, async t => {
  const places = [...CONTAINERS.flatMap(name => TARGETS.map(target => `${name}:${target}`)), ...SPAWNS];
  const model = new Map<string, Kept>(places.map(place => [place, 'none']));
  const chance = random(Number(process.env['SHIFTVOL_TEST_SEED'] ?? 20261124));
  let cut = 0;

  for (let round = 0; round < KILLS; round++) {
    const asked = places.map(place => ({
      place,
      ...next(place, model.get(place) ?? 'none', `r${round}-${place}`, chance()),
    }));
    let answers: (Answer | undefined)[];
    {
      await using agent = await world.agent();
      const burst = Promise.all(asked.map(({ command }) => execute(world, command)));
      await sleep(chance() * 500);
      await agent.kill('SIGKILL');
      answers = await burst;
    }
    await using agent = await world.agent();
    await assertListIsTrue(world, await list(world));
    for (const [i, { place, command, becomes }] of asked.entries()) {
      if (answers[i] === undefined) cut++;
      // Answered or not: the same request again is the same one, and now it is answered.
      const again = await execute(world, command);
      // A cut destroy has forgotten what it destroyed, which is then not found: that is done.
      const gone =
        command.action !== 'attach' &&
        command.action !== 'spawn' &&
        again?.error?.code === 'SV_ATTACHMENT_NOT_FOUND' &&
        answers[i] === undefined;
      assert.ok(
        again?.result !== undefined || gone,
        `round ${round}, ${place} ${command.action}: ${JSON.stringify(again)}\n${agent.log()}`,
      );
      model.set(place, becomes);
    }
    const now = await list(world);
    await assertListIsTrue(world, now);
    const kept = new Map(now.map(a => [a.role === 'root' ? a.instance : `${a.instance}:${a.target}`, a.state]));
    for (const place of places) assert.equal(kept.get(place) ?? 'none', model.get(place), `round ${round}, ${place}`);
  }
  t.diagnostic(`${cut} of ${KILLS * places.length} requests were cut`);
  assert.ok(cut > KILLS / 4, 'the kills fell into the work');

  {
    await using _agent = await world.agent();
    for (const ref of [...CONTAINERS, ...SPAWNS])
      await execute(world, { action: 'destroy', instance: { ref }, lazy: false });
    assert.deepEqual(await list(world), []);
  }
  await assertListIsTrue(world, []);
  await assertHostUnchanged(clean);
});
