/** Nothing stays frozen, whoever is killed: on real file systems, with real processes. Needs root. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FS_TYPES } from '../../../src/engine/model.ts';
import { isError } from '../../../src/errors.ts';
import { type Fd, open } from '../../../src/kernel/fd.ts';
import { freezeFileSystem, thawFileSystem } from '../../../src/kernel/freeze.ts';
import { freezer } from '../../../src/storage/freezer.ts';
import { type Bench, file, withBench } from '../mount/fixture.ts';

const WRITER = new URL('../../rig/writer.ts', import.meta.url).pathname;
const PARENT = new URL('./freezer-parent.ts', import.meta.url).pathname;

/**
 * Mounts an image, has a process write to it all the time, and sees that this goes on after `use`, and how long it was kept. `waits`
 * resolves when the kernel keeps it.
 */
async function withWriter(
  bench: Bench,
  fsType: (typeof FS_TYPES)[number],
  use: (path: string, waits: () => Promise<void>) => Promise<void>,
): Promise<{ longestMs: number }> {
  const image = file(bench.pool.clone(fsType, 'frozen.img'));
  const at = bench.spec('frozen');
  await bench.attach(image, at);
  const writer = spawn(process.execPath, [WRITER, join(at.path, 'root')], { stdio: ['ignore', 'pipe', 'inherit'] });
  let longestMs = 0;
  let lineCount = 0;
  const lines = createInterface({ input: writer.stdout });
  lines.on('line', line => {
    lineCount++;
    longestMs = Math.max(longestMs, Number(line.split(' ')[1] ?? 0));
  });
  await once(lines, 'line');
  const waits = async () => {
    // Its state, behind its name in brackets: D cannot be interrupted.
    while (!readFileSync(`/proc/${writer.pid}/stat`, 'utf8').includes(') D ')) await sleep(1);
  };
  try {
    await use(at.path, waits);
    using mount = open(at.path, 'r');
    assert.equal(thawFileSystem(mount.fd, at.path), false, 'it is not frozen any more');
  } finally {
    await thawHard(at.path);
    await sleep(50);
    writer.kill('SIGTERM');
    await once(writer, 'close');
  }
  await bench.mounter.unmount(at.path, { lazy: false });
  await bench.mounter.released(image, { timeoutMs: 2000 });
  assert.ok(lineCount > 0);
  return { longestMs };
}

/** A host that is busy cannot write out within a short deadline, and says so: then with a longer one. */
async function freezeBriefly(path: string, shortMs: number) {
  for (let deadlineMs = shortMs; ; deadlineMs *= 2)
    try {
      const began = performance.now();
      const frozen = await freezer().freeze([path], { deadlineMs });
      return { deadlineMs, frozen, began, frozenAt: performance.now() };
    } catch (error) {
      if (!isError(error, 'SV_TIMEOUT') || deadlineMs > 10_000) throw error;
    }
}

/** Only where a test has failed is there anything to thaw. */
async function thawHard(path: string): Promise<void> {
  await freezer().thaw(path);
}

async function isFrozen(path: string): Promise<boolean> {
  using mount = open(path, 'r');
  try {
    freezeFileSystem(mount.fd, path);
  } catch {
    return true;
  }
  thawFileSystem(mount.fd, path);
  return false;
}

async function waitThawed(path: string, withinMs: number): Promise<number> {
  const started = performance.now();
  while (await isFrozen(path)) {
    assert.ok(performance.now() - started < withinMs, `still frozen after ${withinMs} ms`);
    await sleep(5);
  }
  return performance.now() - started;
}

async function startParent(deadlineMs: number, path: string): Promise<{ parent: ChildProcess; guardPid: number }> {
  const parent = spawn(process.execPath, [PARENT, `${deadlineMs}`, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(createInterface({ input: parent.stdout }), 'line');
  const { guardPid }: { guardPid: number } = JSON.parse(String(line));
  return { parent, guardPid };
}

for (const fsType of FS_TYPES)
  test(`${fsType}: a writer waits while it is frozen, and goes on when it is thawed`, t =>
    withBench(async bench => {
      const { longestMs } = await withWriter(bench, fsType, async (path, waits) => {
        await using frozen = await freezer().freeze([path], { deadlineMs: 5000 });
        assert.ok(frozen.isFrozen);
        assert.ok(await isFrozen(path));
        await waits();
        await sleep(200);
        const { frozenMs } = await frozen.thaw();
        assert.equal(frozen.isFrozen, false);
        t.diagnostic(`frozen for ${frozenMs.toFixed(1)} ms`);
        assert.ok(frozenMs >= 200 && frozenMs < 1000, `${frozenMs}`);
      });
      assert.ok(longestMs >= 195 && longestMs < 1500, `the writer waited ${longestMs} ms`);
    }));

test('at the deadline it is thawed, and whoever thaws later is told', () =>
  withBench(async bench => {
    await withWriter(bench, 'ext4', async (path, waits) => {
      const { frozen: freeze, deadlineMs, began, frozenAt } = await freezeBriefly(path, 300);
      await using frozen = freeze;
      await waits();
      await frozen.ended;
      const ended = performance.now();
      assert.equal(frozen.isFrozen, false);
      assert.equal(await isFrozen(path), false);
      await assert.rejects(frozen.thaw(), (error: unknown) => isError(error, 'SV_TIMEOUT'));
      // Not before; and far from the two seconds after which the parent would do it.
      assert.ok(ended - began >= deadlineMs, `${ended - began} ms of ${deadlineMs}`);
      assert.ok(ended - frozenAt < deadlineMs + 1500, `${ended - frozenAt} ms of ${deadlineMs}`);
    });
  }));

test('leaving without a thaw thaws', () =>
  withBench(async bench => {
    await withWriter(bench, 'xfs', async path => {
      {
        await using frozen = await freezer().freeze([path], { deadlineMs: 5000 });
        assert.ok(frozen.isFrozen);
      }
      assert.equal(await isFrozen(path), false);
    });
  }));

test('when the guard is killed, its parent thaws at once, and the copy counts for nothing', () =>
  withBench(async bench => {
    await withWriter(bench, 'ext4', async path => {
      await using frozen = await freezer().freeze([path], { deadlineMs: 5000 });
      assert.ok('guardPid' in frozen && typeof frozen.guardPid === 'number');
      process.kill(frozen.guardPid, 'SIGKILL');
      await frozen.ended;
      assert.equal(await isFrozen(path), false);
      await assert.rejects(frozen.thaw(), (error: unknown) => isError(error, 'SV_INTERNAL'));
    });
  }));

test('when the parent is killed, the guard thaws at once', t =>
  withBench(async bench => {
    await withWriter(bench, 'ext4', async path => {
      const { parent, guardPid } = await startParent(5000, path);
      assert.ok(await isFrozen(path));
      parent.kill('SIGKILL');
      const tookMs = await waitThawed(path, 2000);
      t.diagnostic(`thawed ${tookMs.toFixed(0)} ms after the kill`);
      await gone(guardPid);
    });
  }));

test('a stop of the whole service does not end the guard before it has thawed', () =>
  withBench(async bench => {
    await withWriter(bench, 'ext4', async path => {
      const { parent, guardPid } = await startParent(5000, path);
      for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.kill(guardPid, signal);
      await sleep(100);
      assert.ok(await isFrozen(path), 'the guard is still there');
      parent.kill('SIGKILL');
      await waitThawed(path, 2000);
      await gone(guardPid);
    });
  }));

test('when the parent hangs, the guard thaws at the deadline', () =>
  withBench(async bench => {
    await withWriter(bench, 'ext4', async path => {
      const { parent, guardPid } = await startParent(1000, path);
      parent.kill('SIGSTOP');
      assert.ok(await isFrozen(path));
      await waitThawed(path, 2000);
      parent.kill('SIGKILL');
      await gone(guardPid);
    });
  }));

test('when the guard hangs, its parent ends it soon after the deadline', () =>
  withBench(async bench => {
    await withWriter(bench, 'ext4', async path => {
      const { frozen: freeze } = await freezeBriefly(path, 200);
      await using frozen = freeze;
      assert.ok('guardPid' in frozen && typeof frozen.guardPid === 'number');
      process.kill(frozen.guardPid, 'SIGSTOP');
      await frozen.ended;
      assert.equal(await isFrozen(path), false);
    });
  }));

test('when both are killed it stays frozen until it is thawed from outside', () =>
  withBench(async bench => {
    await withWriter(bench, 'ext4', async path => {
      const { parent, guardPid } = await startParent(5000, path);
      parent.kill('SIGSTOP'); // else it would see to it
      process.kill(guardPid, 'SIGKILL');
      parent.kill('SIGKILL');
      await once(parent, 'close');
      assert.ok(await isFrozen(path));

      assert.equal(await freezer().thaw(path), true);
      assert.equal(await freezer().thaw(path), false);
      assert.equal(await isFrozen(path), false);
    });
  }));

test('what somebody else has frozen is left frozen, and told', () =>
  withBench(async bench => {
    await withWriter(bench, 'ext4', async path => {
      using mount = open(path, 'r');
      // The writer's last data must be out, or freezing would have to wait for itself.
      freezeFileSystem(mount.fd, path);
      try {
        await assert.rejects(freezer().freeze([path], { deadlineMs: 1000 }), (error: unknown) =>
          isError(error, 'SV_BUSY'),
        );
        assert.ok(await isFrozen(path));
      } finally {
        thawFileSystem(mount.fd satisfies Fd, path);
      }
    });
  }));

test('thawing what is not mounted is no failure', async () => {
  assert.equal(await freezer().thaw('/tmp/shiftvol-nothing-here'), false);
});

/** Waits for the end of a process that is not our child. */
async function gone(pid: number): Promise<void> {
  for (let i = 0; i < 200; i++) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await sleep(10);
  }
  assert.fail(`process ${pid} is still there`);
}
