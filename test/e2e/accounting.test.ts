/**
 * What a range of its own is for: the kernel counts pipe buffers (and more) per user of the host, so that containers with one map take
 * them from each other. @see pipe(7), /proc/sys/fs/pipe-user-pages-soft
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Host } from '../../src/cli/assemble.ts';
import { until } from '../integration/bus/helpers.ts';
import { makeRootfs } from '../rig/busybox.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { makeWorld, type World } from './world.ts';

const never = new AbortController().signal;
const SOURCE = new URL('pipes.c', import.meta.url).pathname;
const USER = 99;
/** A new pipe has 16 pages; above the user's limit, 2. */
const [FULL, SHRUNK] = [65_536, 8192];
const SOFT_LIMIT_PAGES = Number(readFileSync('/proc/sys/fs/pipe-user-pages-soft', 'utf8'));
const ENOUGH = Math.floor(SOFT_LIMIT_PAGES / 16) + 1;
/** In root's subuid range, beyond what shiftvol or LXD would give out. */
const SHARED_BASE = 9_600_000;
let world: World;
let host: Host;
let clean: HostState;

before(async () => {
  world = await makeWorld();
  chmodSync(world.dir, 0o711); // instances' root users walk through it to their root file systems
  const [tools, rootfs] = ['tools', 'rootfs'].map(name => join(world.dir, name));
  assert.ok(tools && rootfs);
  mkdirSync(tools);
  mkdirSync(rootfs);
  execFileSync('gcc', ['-static', '-O2', '-Wall', '-Werror', '-o', join(tools, 'pipes'), SOURCE]);
  await makeRootfs(rootfs);
  execFileSync('cp', [join(tools, 'pipes'), join(rootfs, 'bin')]);
  await world.addTemplate('tools', { from: tools });
  await world.addTemplate('busybox', { from: rootfs });
  host = await world.engine();
  clean = hostState(world.dir);
});
after(async () => {
  await host?.[Symbol.asyncDispose]();
  await world?.[Symbol.asyncDispose]();
});

async function pipes(container: string, program: string, ...args: readonly string[]): Promise<number> {
  const result = await world.lxd.exec(container, [program, ...args], { uid: USER });
  assert.equal(result.code, 0, `${container}: ${result.stderr}`);
  return Number(result.stdout);
}

/** The capacity of a new pipe in `there`, before, while and after the same user of `here` holds as many as it may. */
async function sizesBeside(here: string, there: string, program: string): Promise<readonly number[]> {
  const size = () => pipes(there, program, 'size');
  const before = await size();
  const holder = await pipes(here, program, 'hold', String(ENOUGH));
  assert.equal(await pipes(here, program, 'size'), SHRUNK, 'the holder itself is at its limit');
  const during = await size();
  await world.lxd.sh(here, `kill -9 ${holder}`);
  await until('they are gone', async () => (await pipes(here, program, 'size')) === FULL);
  return [before, during, await size()];
}

async function remove(...names: readonly string[]): Promise<void> {
  for (const name of names) {
    await world.lxd.stop(name);
    await world.lxd.delete(name);
    await host.engine.execute({ action: 'destroy', instance: { ref: name }, lazy: false }, never);
  }
  assert.deepEqual(host.engine.list(), []);
  assert.deepEqual(host.store.allocations(), []);
  await assertHostUnchanged(clean);
}

test('two containers with one map share the pipes of a user: one shrinks those of the other', {
  skip: SOFT_LIMIT_PAGES === 0,
}, async () => {
  for (const name of ['p1', 'p2']) {
    await world.lxd.launch(name, { 'security.idmap.isolated': 'true', 'security.idmap.base': `${SHARED_BASE}` });
    const source = { kind: 'template', template: 'tools' } as const;
    await host.engine.execute(
      { action: 'attach', instance: { ref: name }, target: '/mnt/tools', source, readOnly: true },
      never,
    );
  }

  assert.deepEqual(await sizesBeside('p1', 'p2', '/mnt/tools/pipes'), [FULL, SHRUNK, FULL]);
  await remove('p1', 'p2');
});

test('two instances that shiftvol gave ranges of their own do not', { skip: SOFT_LIMIT_PAGES === 0 }, async () => {
  for (const name of ['q1', 'q2']) {
    const { attachments } = await host.engine.execute(
      { action: 'spawn', instance: { ref: name }, template: 'busybox' },
      never,
    );
    const allocation = host.store.allocations().find(a => a.instance === name);
    assert.ok(attachments[0] && allocation);
    const { start: base, count: size } = allocation.uid;
    await world.lxd.createOn(name, attachments[0].plan.mountPath, { base, size });
    await world.lxd.start(name);
  }

  assert.deepEqual(await sizesBeside('q1', 'q2', '/bin/pipes'), [FULL, FULL, FULL]);
  await remove('q1', 'q2');
});
