import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AttachCommand, Attachment } from '../../../src/engine/model.ts';
import { isError } from '../../../src/errors.ts';
import { makeRig, type Rig } from './fakes.ts';

const never = new AbortController().signal;
const place = { instance: { ref: 'c1' }, target: '/mnt/a' };
const attach: AttachCommand = {
  action: 'attach',
  ...place,
  source: { kind: 'template', template: 'web' },
  readOnly: false,
};

async function attached(rig: Rig, change: Partial<AttachCommand> = {}): Promise<Attachment> {
  rig.host.addInstance('c1', 1_000_000);
  const { attachments } = await rig.engine.execute({ ...attach, ...change }, never);
  const [attachment] = attachments;
  assert.ok(attachment);
  return attachment;
}

async function cleanUp(rig: Rig): Promise<void> {
  await rig.engine.execute({ action: 'destroy', instance: { ref: 'c1' }, lazy: false }, never);
  assert.deepEqual(rig.store.tasks(), []);
  rig.host.assertClean();
}

test('a size that is asked for is grown to in the mount step; without one nothing is looked at', async () => {
  using rig = makeRig();
  const { plan } = await attached(rig, { source: { kind: 'template', template: 'web', sizeBytes: 1 << 22 } });
  assert.deepEqual(rig.host.grown, [plan.mountPath]);

  await rig.engine.execute({ ...attach, target: '/mnt/b' }, never);

  assert.deepEqual(rig.host.grown, [plan.mountPath]);
  await cleanUp(rig);
});

test('what is attached is extended once for one request, told like every command, and never made smaller', async () => {
  using rig = makeRig();
  const { plan } = await attached(rig);
  const extend = { action: 'extend', ...place, sizeBytes: 1 << 22, requestId: 'r1' } as const;

  const first = await rig.engine.execute(extend, never);
  const again = await rig.engine.execute(extend, never);

  assert.deepEqual([first.changed, again.changed], [true, false]);
  assert.deepEqual(
    first.steps.map(s => s.step),
    ['enlarge', 'grow'],
  );
  assert.equal(rig.host.sizes.get(plan.image.path), 1 << 22);
  const told = rig.store.pending(10).map(({ event }) => `${event.action}.${event.phase}`);
  assert.deepEqual(told.slice(-2), ['extend.start', 'extend.end']);
  for (const [sizeBytes, code] of [
    [1 << 21, 'SV_USAGE'],
    [undefined, 'SV_USAGE'],
  ] as const)
    await assert.rejects(
      rig.engine.execute({ action: 'extend', ...place, ...(sizeBytes !== undefined && { sizeBytes }) }, never),
      e => isError(e, code),
    );
  await cleanUp(rig);
});

test('an image is cloned while nobody can write, and has its name only then', async () => {
  using rig = makeRig();
  const { plan } = await attached(rig);

  const saved = await rig.engine.snapshots.create(place, 'first', { signal: never });

  assert.deepEqual([...rig.host.saved], [[`${plan.id}/first`, true]]);
  assert.equal(saved.idBase, plan.idBase);
  await assert.rejects(rig.engine.snapshots.create(place, 'first', { signal: never }), e =>
    isError(e, 'SV_SNAPSHOT_EXISTS'),
  );
  await rig.engine.snapshots.remove(place, 'first', never);
  await cleanUp(rig);
});

test('volumes that are stored elsewhere are saved there', async () => {
  using rig = makeRig();
  await attached(rig, { source: { kind: 'device', path: '/dev/sdz' }, volumeId: 'v-1' });

  await assert.rejects(
    rig.engine.snapshots.create(place, 'first', { signal: never }),
    e => isError(e, 'SV_IMAGE_REFUSED') && e.remedy?.includes('--volume v-1') === true,
  );
  await cleanUp(rig);
});

for (const method of ['clone', 'keep'] as const)
  test(`a death within ${method} leaves nothing frozen and no half snapshot`, async () => {
    using rig = makeRig();
    await attached(rig);
    rig.host.hangs = method;
    void rig.engine.snapshots.create(place, 'cut', { signal: never });
    while (rig.host.hanging !== method) await sleep(1);
    rig.host.hangs = undefined;

    rig.restart();
    const { tasks } = await rig.engine.recover({ dryRun: false, signal: never });

    assert.deepEqual(
      tasks.map(t => `${t.task} ${t.did}`),
      ['snapshot undone'],
    );
    assert.deepEqual([...rig.host.frozen], []);
    assert.deepEqual([...rig.host.clones], []);
    await rig.engine.snapshots.create(place, 'cut', { signal: never });
    await rig.engine.snapshots.remove(place, 'cut', never);
    await cleanUp(rig);
  });

test('what an earlier run left of an instance is ended before anything else is done to it', async () => {
  using rig = makeRig();
  await attached(rig);
  rig.host.hangs = 'clone';
  void rig.engine.snapshots.create(place, 'cut', { signal: never });
  while (rig.host.hanging !== 'clone') await sleep(1);
  rig.host.hangs = undefined;
  rig.restart();
  assert.equal(rig.store.tasks().length, 1);

  await rig.engine.execute({ action: 'detach', ...place, lazy: false }, never);

  assert.deepEqual(rig.store.tasks(), []);
  await cleanUp(rig);
});

test('a snapshot comes back into what is detached or stopped, under no mount, and never into what runs', async () => {
  using rig = makeRig();
  const { plan } = await attached(rig);
  await rig.engine.snapshots.create(place, 'one', { signal: never });
  await assert.rejects(rig.engine.snapshots.restore(place, 'one', never), e => isError(e, 'SV_BUSY'));
  assert.deepEqual(rig.host.restored, []);

  const instance = rig.host.instances.get('c1');
  assert.ok(instance);
  const { pid: _, ...rest } = instance;
  rig.host.instances.set('c1', { ...rest, running: false });
  await rig.engine.snapshots.restore(place, 'one', never);
  assert.ok(rig.host.mounts.has(plan.mountPath), 'it is mounted again');
  await rig.engine.execute({ action: 'detach', ...place, lazy: false }, never);
  await rig.engine.snapshots.restore(place, 'one', never);

  assert.deepEqual(rig.host.restored, [`${plan.image.path} one`, `${plan.image.path} one`]);
  await rig.engine.snapshots.remove(place, 'one', never);
  await cleanUp(rig);
});

test('an instance stands still until it is thawed; snapshots are taken meanwhile, all else waits', async () => {
  using rig = makeRig();
  const { plan } = await attached(rig);
  await rig.engine.standstills.freeze({ ref: 'c1' }, { signal: never });
  assert.deepEqual([...rig.host.frozen], [plan.mountPath]);

  await assert.rejects(rig.engine.execute({ action: 'detach', ...place, lazy: false }, never), e =>
    isError(e, 'SV_BUSY'),
  );
  await rig.engine.snapshots.create(place, 'quiet', { signal: never });
  assert.deepEqual([...rig.host.frozen], [plan.mountPath], 'it was not thawed by the snapshot');
  assert.deepEqual((await rig.engine.recover({ dryRun: false, signal: never })).tasks, []);
  assert.deepEqual([...rig.host.frozen], [plan.mountPath], 'nor by a recovery');
  await rig.engine.standstills.thaw({ ref: 'c1' }, never);

  await assert.rejects(rig.engine.standstills.thaw({ ref: 'c1' }, never), e => isError(e, 'SV_TIMEOUT'));
  await rig.engine.snapshots.remove(place, 'quiet', never);
  await cleanUp(rig);
});

test('an instance that stood still when its engine died is thawed by recover', async () => {
  using rig = makeRig();
  await attached(rig);
  await rig.engine.standstills.freeze({ ref: 'c1' }, { signal: never });

  rig.restart();
  const { tasks } = await rig.engine.recover({ dryRun: false, signal: never });

  assert.deepEqual(
    tasks.map(t => `${t.task} ${t.did}`),
    ['freeze undone'],
  );
  assert.deepEqual([...rig.host.frozen], []);
  await cleanUp(rig);
});
