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
