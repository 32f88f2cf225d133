import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Connection, InstanceKey, Source, SpawnCommand } from '../../../src/engine/model.ts';
import { isError } from '../../../src/errors.ts';
import { makeRig } from './fakes.ts';

const never = new AbortController().signal;
const ROOT = '/run/shiftvol/roots/0f';
const CONNECTION: Connection = {
  type: 'nfs',
  volumeId: 'v-1',
  name: 'nfs-v-1',
  kind: 'file',
  readOnly: false,
  facts: {},
};
const VOLUME: Source = { kind: 'connection', connection: CONNECTION, idBase: 100_000 };
const spawn = (ref: string, source: Source): SpawnCommand => ({ action: 'spawn', instance: { ref }, source });

type Rig = ReturnType<typeof makeRig>;
/** As a runtime has it whose root file system is ours to mount: stopped, with its ids. */
function addStopped({ host }: Rig, name: string, rootPath = ROOT): void {
  host.addInstance(name, 2_000_000);
  const { pid: _, ...instance } = host.instances.get(name) ?? assert.fail();
  host.instances.set(name, { ...instance, key: name as InstanceKey, running: false, rootPath });
}

test('the root file system of an instance that is there goes where the runtime expects it, with the ids that it has', async () => {
  using rig = makeRig();
  addStopped(rig, 'c1');
  const { attachments } = await rig.engine.execute(spawn('c1', { kind: 'template', template: 'web' }), never);

  assert.equal(attachments[0]?.plan.mountPath, ROOT);
  assert.equal(attachments[0]?.plan.idmap[0]?.hostId, 2_000_000);
  assert.deepEqual(rig.store.allocations(), []);
});

test('a volume as root file system is connected, used as it is, and only let go of by destroy', async () => {
  using rig = makeRig();
  addStopped(rig, 'c1');
  const { attachments, changed } = await rig.engine.execute(spawn('c1', VOLUME), never);
  const again = await rig.engine.execute(spawn('c1', VOLUME), never);
  const plan = attachments[0]?.plan ?? assert.fail();

  assert.deepEqual([changed, again.changed], [true, false]);
  assert.deepEqual([plan.role, plan.volumeId, plan.idBase, plan.snapshot], ['root', 'v-1', 100_000, undefined]);
  assert.equal(plan.idmap[0]?.fsId, 100_000);
  assert.deepEqual([...rig.host.connected], ['nfs-v-1']);

  await rig.engine.execute({ action: 'destroy', instance: { ref: 'c1' }, lazy: false }, never);
  assert.deepEqual([...rig.host.connected], []);
  assert.deepEqual(rig.engine.list(), []);
  rig.host.assertClean();
});

test('a volume that another instance has cannot be a root file system, nor the other way round', async () => {
  using rig = makeRig();
  addStopped(rig, 'c1');
  addStopped(rig, 'c2', '/run/shiftvol/roots/10');
  await rig.engine.execute(spawn('c1', VOLUME), never);

  await assert.rejects(rig.engine.execute(spawn('c2', VOLUME), never), e => isError(e, 'SV_VOLUME_IN_USE'));
  const attach = { action: 'attach', target: '/mnt/x', source: VOLUME, readOnly: false } as const;
  await assert.rejects(rig.engine.execute({ ...attach, instance: { ref: 'c2' } }, never), e =>
    isError(e, 'SV_VOLUME_IN_USE'),
  );
});

test('another root file system than the present one is refused, and one at another place than the runtime expects', async () => {
  using rig = makeRig();
  addStopped(rig, 'c1');
  await rig.engine.execute(spawn('c1', VOLUME), never);
  await assert.rejects(rig.engine.execute(spawn('c1', { kind: 'template', template: 'web' }), never), e =>
    isError(e, 'SV_TARGET_TAKEN'),
  );
  addStopped(rig, 'c1', '/run/shiftvol/roots/11');
  await assert.rejects(
    rig.engine.execute(spawn('c1', VOLUME), never),
    e => isError(e, 'SV_TARGET_TAKEN') && /11/.test(e.message),
  );
});

test('events of a volume as root file system name the volume, those of a template the template', async () => {
  using rig = makeRig();
  addStopped(rig, 'c1');
  addStopped(rig, 'c2', '/run/shiftvol/roots/10');
  await rig.engine.execute({ ...spawn('c1', VOLUME), volumeId: 'v-1' }, never);
  await rig.engine.execute(spawn('c2', { kind: 'template', template: 'web' }), never);
  const ends = rig.store.pending(100).flatMap(({ event }) => (event.phase === 'end' ? [event] : []));
  assert.deepEqual(
    ends.map(e => [e.volumeId, e.template]),
    [
      ['v-1', undefined],
      [undefined, 'web'],
    ],
  );
});

test('a dry run shows what would be mounted where, and connects nothing', async () => {
  using rig = makeRig();
  addStopped(rig, 'c1');
  const { plan, steps } = await rig.engine.preview(spawn('c1', VOLUME), never);
  assert.equal(plan?.mountPath, ROOT);
  assert.ok(steps.some(s => s.step === 'mount' && s.object === ROOT));
  assert.deepEqual([...rig.host.connected], []);
});
