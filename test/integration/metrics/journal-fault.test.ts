/** A disk that takes nothing any more: what the journal, and so the agent's health, says then. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { agentHealth } from '../../../src/cli/agent-health.ts';
import type { InstanceKey, Plan } from '../../../src/engine/model.ts';
import { Store } from '../../../src/store/journal.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-fault-'));
const [below, disk] = [join(dir, 'below'), join(dir, 'disk')];
const mounted: string[] = [];
after(() => {
  for (const path of mounted.toReversed()) execFileSync('umount', [path]);
  rmSync(dir, { recursive: true });
});

function mount(...args: readonly string[]): void {
  execFileSync('mount', args);
  mounted.push(args.at(-1) ?? '');
}

/** A file system whose device has less room below it than it seems, as on a thin volume. */
function thinDisk(): void {
  for (const path of [below, disk]) mkdirSync(path);
  mount('-t', 'tmpfs', '-o', 'size=32m', 'shiftvol-test', below);
  const image = join(below, 'image');
  writeFileSync(image, '');
  truncateSync(image, 128 << 20);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', image]);
  mount('-o', 'loop', image, disk);
}

function fillBelow(): void {
  const { bavail, bsize } = statfsSync(below);
  writeFileSync(join(below, 'ballast'), Buffer.alloc(bavail * bsize, 1));
}

test('a journal that cannot be brought to the disk makes its agent one to be started anew, which helps when the disk is well', async () => {
  thinDisk();
  const plan = (n: number) =>
    ({ id: `a${n}`, instance: 'c1', target: `/mnt/${n}`, filler: 'x'.repeat(1 << 20), image: {} }) as unknown as Plan;
  const options = { stateDir: join(disk, 'state'), lockTimeoutMs: 50, outbox: false };
  const lxd = { client: { serverPid: async () => 1 } };
  {
    using store = new Store(options);
    const health = agentHealth({ store, lxd }, { recovered: true, serving: true, stopping: false }, () => undefined);
    store.begin(plan(0), {});
    await store.flushed();
    assert.equal(health.alive(), undefined);
    assert.deepEqual(await health.ready(), { ready: true, missing: [] });

    fillBelow();
    for (let n = 1; n < 4; n++) store.begin(plan(n), {});

    await assert.rejects(store.flushed(), { code: 'SV_STORE' });
    assert.match(health.alive() ?? '', /cannot be brought to the disk/);
    health.forget();
    assert.deepEqual(
      (await health.ready()).missing.map(({ part }) => part),
      ['journal'],
    );
    await assert.rejects(store.flushed(), { code: 'SV_STORE' });
  }
  rmSync(join(below, 'ballast'));

  using store = new Store(options);
  store.record({ release: 'c1' as InstanceKey });
  await store.flushed();
  assert.equal(store.failure, undefined);
});
