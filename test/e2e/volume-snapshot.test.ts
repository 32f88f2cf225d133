/** A volume's snapshots: saved under whoever writes, brought back, and nothing stays frozen, whoever dies. */
import assert from 'node:assert/strict';
import { copyFileSync, constants as fs, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FS_TYPES } from '../../src/engine/model.ts';
import type { Saved } from '../../src/engine/snapshots.ts';
import { withMounted } from '../rig/images.ts';
import { assertListIsTrue } from './consistent.ts';
import { isFrozen, startWriter, VolumeWorld } from './volume-world.ts';

let v: VolumeWorld;
before(async () => {
  v = await VolumeWorld.make();
});
after(async () => await v?.[Symbol.asyncDispose]());

for (const fsType of FS_TYPES)
  test(`${fsType}: saved while it is written to, it holds what was synced, and mounts`, async t => {
    const { hostPath, id } = await v.attachWritten(fsType);
    await using writer = await startWriter(join(hostPath, 'clock'));

    const saved = await v.cli<Saved>('snapshot', 'create', 'c1:/mnt/v', 'first');
    const longestMs = await writer.stop();

    t.diagnostic(`frozen for ${saved.frozenMs.toFixed(1)} ms; the writer waited ${longestMs.toFixed(1)} ms`);
    assert.ok(saved.frozenMs > 0 && saved.frozenMs < 5000);
    assert.ok(longestMs < 6000, `the writer waited ${longestMs} ms`);
    assert.equal(isFrozen(hostPath), false);
    const copy = join(v.world.dir, 'state/pool/look.img');
    copyFileSync(saved.path, copy, fs.COPYFILE_FICLONE_FORCE);
    const found = withMounted(copy, fsType, point => readFileSync(join(point, 'marker'), 'utf8'));
    rmSync(copy);
    assert.equal(found, 'one\n');
    const [row] = await v.cli<{ exclusiveBytes: number; sharedBytes: number }[]>('snapshot', 'list', id);
    assert.ok(row && row.sharedBytes > row.exclusiveBytes, JSON.stringify(row));
    assert.deepEqual((await v.refused('snapshot', 'create', id, 'first')).error.code, 'SV_SNAPSHOT_EXISTS');
    await v.cli('snapshot', 'remove', id, 'first');
    assert.deepEqual((await v.refused('snapshot', 'remove', id, 'first')).error.code, 'SV_SNAPSHOT_NOT_FOUND');
    await v.leave();
  });

test('it is brought back into what is detached, and into what a stopped instance has; never under a running one', async () => {
  const { id } = await v.attachWritten('ext4');
  await v.cli('snapshot', 'create', id, 'one');
  await v.world.lxd.sh('c1', 'echo two > /mnt/v/marker; sync');
  await v.cli('snapshot', 'create', id, 'two');

  const running = await v.refused('snapshot', 'restore', id, 'one');
  assert.deepEqual([running.code, running.error.code], [4, 'SV_BUSY']);
  assert.equal(await v.world.lxd.sh('c1', 'cat /mnt/v/marker'), 'two');

  await v.world.lxd.stop('c1');
  await v.cli('snapshot', 'restore', id, 'one');
  await v.world.lxd.start('c1');
  assert.equal(await v.world.lxd.sh('c1', 'cat /mnt/v/marker'), 'one');

  await v.cli('detach', 'c1:/mnt/v');
  await v.cli('snapshot', 'restore', 'c1:/mnt/v', 'two');
  await v.cli('attach', 'c1', 'ext4:/mnt/v', '--snapshot');
  assert.equal(await v.world.lxd.sh('c1', 'cat /mnt/v/marker'), 'two');

  for (const name of ['one', 'two']) await v.cli('snapshot', 'remove', id, name);
  await v.leave();
});

test('a snapshot outlives its attachment, and a template is made of it or of what is attached, with its base', async () => {
  await v.world.addTemplate('based', { files: 20, fsType: 'xfs', idBase: 100_000 });
  await v.cli('attach', 'c1', 'based:/mnt/v', '--snapshot');
  await v.world.lxd.sh('c1', 'echo one > /mnt/v/marker; sync');
  const { attachment } = await v.cli<Saved>('snapshot', 'create', 'c1:/mnt/v', 'kept');
  await v.world.lxd.sh('c1', 'echo two > /mnt/v/marker; sync');

  const live = await v.cli<{ template: { idBase: number } }>(
    'template',
    'import',
    'live',
    '--from',
    'attachment:c1:/mnt/v',
  );
  await v.cli('destroy', 'c1');
  const kept = await v.cli<{ template: { idBase: number } }>(
    'template',
    'import',
    'kept',
    '--from',
    `attachment:${attachment}@kept`,
  );

  assert.deepEqual([live.template.idBase, kept.template.idBase], [100_000, 100_000]);
  for (const [name, marker] of [
    ['live', 'two'],
    ['kept', 'one'],
  ] as const) {
    await v.cli('attach', 'c1', `${name}:/mnt/v`, '--snapshot');
    assert.equal(await v.world.lxd.sh('c1', 'cat /mnt/v/marker; stat -c %u /mnt/v/marker'), `${marker}\n0`);
    await v.cli('destroy', 'c1');
    await v.cli('template', 'remove', name);
  }
  const held = (await v.cli<{ name: string }[]>('snapshot', 'list')).map(s => s.name);
  assert.deepEqual(held, ['kept'], 'the one that the import took for itself is gone');
  await v.cli('snapshot', 'remove', attachment, 'kept');
});

const boundaries: readonly (readonly [boundary: string, did: string])[] = [
  ['freezer:freeze:before', 'undone'],
  ['freezer:freeze:after', 'undone'],
  ['saved:clone:before', 'undone'],
  ['saved:clone:after', 'undone'],
  ['saved:clone:after:guard', 'undone'],
  ['saved:keep:before', 'undone'],
  ['saved:keep:after', 'finished'],
];
for (const [boundary, did] of boundaries)
  test(`killed at ${boundary} a snapshot is ${did}, and the writer goes on`, async t => {
    const { hostPath, id } = await v.attachWritten('ext4');
    await using writer = await startWriter(join(hostPath, 'clock'));

    assert.equal(v.dieAt(boundary, 'create', 'cut'), 'SIGKILL');
    const died = performance.now();
    const both = boundary.endsWith(':guard');
    // A writer that waits cannot be looked at but by thawing, which is recover's part where both are dead.
    if (!both) await sleep(300);
    const { tasks } = await v.cli<{ tasks: { task: string; did: string }[] }>('recover');
    const longestMs = await writer.stop();

    t.diagnostic(
      `the writer waited ${longestMs.toFixed(0)} ms, recover had ended ${(performance.now() - died).toFixed(0)} ms after the death`,
    );
    assert.deepEqual(
      tasks.map(one => `${one.task} ${one.did}`),
      [`snapshot ${did}`],
    );
    assert.equal(isFrozen(hostPath), false);
    if (!both) assert.ok(longestMs < 5500, `the writer waited ${longestMs} ms`);
    assert.equal((await v.cli<unknown[]>('snapshot', 'list')).length, did === 'finished' ? 1 : 0);
    await v.cli('snapshot', 'create', id, 'next');
    for (const { name } of await v.cli<{ name: string }[]>('snapshot', 'list'))
      await v.cli('snapshot', 'remove', id, name);
    await v.leave();
  });

for (const boundary of [
  'mounter:unmount:before',
  'mounter:released:after',
  'saved:restore:before',
  'saved:restore:after',
  'mounter:mount:before',
  'mounter:mount:after',
])
  test(`a restore that is killed at ${boundary} is finished by recover`, async () => {
    const { id } = await v.attachWritten('xfs');
    await v.cli('snapshot', 'create', id, 'one');
    await v.world.lxd.sh('c1', 'echo two > /mnt/v/marker; sync');
    await v.world.lxd.stop('c1');

    assert.equal(v.dieAt(boundary, 'restore', 'one'), 'SIGKILL');
    const { tasks, attachments } = await v.cli<{ tasks: { did: string }[]; attachments: { did: string }[] }>('recover');

    assert.deepEqual(
      tasks.map(t => t.did),
      ['finished'],
    );
    assert.ok(
      attachments.every(a => a.did === 'mounted again'),
      JSON.stringify(attachments),
    );
    await assertListIsTrue(v.world, await v.cli('list'));
    await v.world.lxd.start('c1');
    assert.equal(await v.world.lxd.sh('c1', 'cat /mnt/v/marker'), 'one');
    await v.cli('snapshot', 'remove', id, 'one');
    await v.leave();
  });
