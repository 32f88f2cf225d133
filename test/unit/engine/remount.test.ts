import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AttachCommand, Connection } from '../../../src/engine/model.ts';
import { makeRig } from './fakes.ts';

const never = new AbortController().signal;
const connection: Connection = {
  type: 'iscsi',
  volumeId: 'v1',
  name: 'iscsi:v1',
  kind: 'device',
  readOnly: false,
  facts: {},
};
const attach: AttachCommand = {
  action: 'attach',
  instance: { ref: 'c1' },
  target: '/mnt/v1',
  source: { kind: 'connection', connection },
  readOnly: false,
};

test('what a reboot took, and recover could not mount, the same attach mounts again', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  await rig.engine.execute(attach, never);
  const mounts = [...rig.host.mounts.keys()];
  rig.host.mounts.clear();
  rig.host.connected.clear();

  const again = await rig.engine.execute(attach, never);

  assert.deepEqual([...rig.host.mounts.keys()], mounts);
  assert.deepEqual([...rig.host.connected], ['iscsi:v1']);
  assert.equal(again.attachments[0]?.status.state, 'attached');
  assert.equal(again.changed, false);

  await rig.engine.execute({ action: 'destroy', instance: { ref: 'c1' }, lazy: false }, never);
  rig.host.assertClean();
});

test('the same spawn mounts a root file system again, from the snapshot that it had', async () => {
  using rig = makeRig();
  const spawn = { action: 'spawn', instance: { ref: 'c2' }, template: 'web' } as const;
  await rig.engine.execute(spawn, never);
  const [snapshots, mounts] = [[...rig.host.snapshots], [...rig.host.mounts.keys()]];
  rig.host.mounts.clear();

  await rig.engine.execute(spawn, never);

  assert.deepEqual([[...rig.host.snapshots], [...rig.host.mounts.keys()]], [snapshots, mounts]);
});

test('a volume that is reached in another way by now is mounted as the command says, and the journal knows', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  await rig.engine.execute(attach, never);
  rig.host.mounts.clear();
  const moved: Connection = { ...connection, facts: { paths: ['192.0.2.1:3260 iqn.2026-01.x 7'] } };

  await rig.engine.execute({ ...attach, source: { kind: 'connection', connection: moved } }, never);

  const [found] = rig.engine.list();
  assert.equal(found?.status.state, 'attached');
  assert.deepEqual(found?.plan.source, { kind: 'connection', connection: moved });
  assert.equal(rig.host.mounts.size, 1);
});

test('what is another file system by now is not mounted after a reboot: it may be another user’s', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  await rig.engine.execute(attach, never);
  const [before] = rig.engine.list();
  rig.host.mounts.clear();
  rig.host.uuids.set(connection.name, 'of another volume');

  const { attachments } = await rig.engine.recover({ dryRun: false, signal: never });

  assert.deepEqual(
    attachments.map(({ did, error }) => [did, error?.code]),
    [['left', 'SV_VOLUME_NOT_FOUND']],
  );
  assert.equal(rig.host.mounts.size, 0);
  assert.deepEqual(rig.engine.list(), [before]);
  await assert.rejects(rig.engine.execute(attach, never), /is the file system of another volume/);

  rig.host.uuids.clear();
  await rig.engine.execute(attach, never);
  assert.equal(rig.host.mounts.size, 1);
});

test('recover does not wait for one that waits: others are mounted meanwhile', async () => {
  using rig = makeRig();
  for (const name of ['c1', 'c2']) rig.host.addInstance(name, 2_000_000 + (name === 'c2' ? 100_000 : 0));
  await rig.engine.execute(attach, never);
  const other: Connection = { ...connection, volumeId: 'v2', name: 'iscsi:v2' };
  const second = { ...attach, instance: { ref: 'c2' }, source: { kind: 'connection', connection: other } } as const;
  await rig.engine.execute(second, never);
  rig.host.mounts.clear();
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
  rig.host.connecting.set(connection.name, answered);

  const recovering = rig.engine.recover({ dryRun: false, signal: never });
  while (rig.host.mounts.size === 0) await new Promise(resolve => setImmediate(resolve));
  assert.equal(rig.host.mounts.size, 1);
  answer();

  assert.deepEqual(
    (await recovering).attachments.map(({ did }) => did),
    ['mounted again', 'mounted again'],
  );
});

test('what Nova attached waits after a reboot until Nova asks for it: the instance may have been evacuated', async () => {
  using rig = makeRig();
  rig.host.own = false;
  rig.host.addInstance('c1', 2_000_000);
  await rig.engine.execute(attach, never);
  rig.host.mounts.clear();
  rig.host.connected.clear();

  for (const dryRun of [true, false]) {
    const { attachments } = await rig.engine.recover({ dryRun, signal: never });
    assert.deepEqual(
      attachments.map(({ did }) => did),
      ['waits'],
    );
  }
  assert.deepEqual([rig.host.mounts.size, rig.host.connected.size], [0, 0]);

  await rig.engine.execute(attach, never);
  assert.deepEqual([rig.host.mounts.size, rig.host.connected.size], [1, 1]);
  await rig.engine.execute({ action: 'detach', instance: { ref: 'c1' }, target: '/mnt/v1', lazy: false }, never);
  rig.host.assertClean();
});
