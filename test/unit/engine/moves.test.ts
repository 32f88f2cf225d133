/** What comes from another host, and what goes when an instance has left. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InstanceKey } from '../../../src/engine/model.ts';
import { isError } from '../../../src/errors.ts';
import { makeRig } from './fakes.ts';

const never = new AbortController().signal;
const image = '/pool/incoming/0123456789abcdef/image-1';
const volume = {
  instance: { ref: 'c1' },
  role: 'volume',
  target: '/mnt/data',
  template: 'web',
  readOnly: false,
  image,
} as const;
const source = { kind: 'template', template: 'web' } as const;
const attach = (target: string) =>
  ({ action: 'attach', instance: { ref: 'c1' }, target, source, readOnly: false }) as const;

test('an image that came becomes a detached attachment, and is mapped by its next attach to what the instance has here', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 3_000_000);
  const adopted = await rig.engine.adopt(volume, never);
  assert.equal(adopted.status.state, 'detached');
  assert.deepEqual([...rig.host.snapshots], [`web/${adopted.plan.id}`]);

  const { attachments } = await rig.engine.execute(attach('/mnt/data'), never);
  assert.equal(attachments[0]?.status.state, 'attached');
  assert.equal(attachments[0]?.plan.idmap[0]?.hostId, 3_000_000);
  assert.equal(attachments[0]?.plan.snapshotKept, true);
});

test('a root that came for an instance that is not there yet reserves ids for it', async () => {
  using rig = makeRig();
  const adopted = await rig.engine.adopt({ ...volume, role: 'root', target: '/' }, never);
  const ids = rig.store.allocation('c1' as InstanceKey);
  assert.equal(adopted.plan.idmap[0]?.hostId, ids?.uid.start);
  const { attachments } = await rig.engine.execute({ action: 'spawn', instance: { ref: 'c1' }, source }, never);
  assert.equal(attachments[0]?.plan.id, adopted.plan.id);
});

test('nothing takes the place of what is there, and a volume needs its instance', async () => {
  using rig = makeRig();
  await assert.rejects(rig.engine.adopt(volume, never), e => isError(e, 'SV_INSTANCE_NOT_FOUND'));
  rig.host.addInstance('c1', 3_000_000);
  await rig.engine.execute(attach('/mnt/data'), never);
  await assert.rejects(rig.engine.adopt(volume, never), e => isError(e, 'SV_TARGET_TAKEN'));
  assert.deepEqual(rig.engine.list().length, 1);
});

test('an instance that has left lets go of every volume, keeps their snapshots, and its root', async () => {
  using rig = makeRig();
  await rig.engine.execute({ action: 'spawn', instance: { ref: 'c1' }, source }, never);
  rig.host.addInstance('c1', 3_000_000);
  for (const target of ['/mnt/data', '/mnt/data/below', '/srv']) await rig.engine.execute(attach(target), never);
  const leave = { action: 'detach', instance: { ref: 'c1' }, all: true, lazy: false } as const;

  await rig.engine.execute(leave, never);

  const states = rig.engine.list().map(a => `${a.plan.target} ${a.status.state}`);
  assert.deepEqual(states.toSorted(), [
    '/ attached',
    '/mnt/data detached',
    '/mnt/data/below detached',
    '/srv detached',
  ]);
  assert.equal(rig.host.snapshots.size, 4);
  await assert.rejects(rig.engine.execute(leave, never), e => isError(e, 'SV_ATTACHMENT_NOT_FOUND'));
});

test('what was attached since it was told stays', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 3_000_000);
  await rig.engine.execute(attach('/mnt/data'), never);
  const leave = { action: 'detach', instance: { ref: 'c1' }, all: true, lazy: false } as const;

  const before = { ...leave, until: '2000-01-01T00:00:00.000Z' };
  await assert.rejects(rig.engine.execute(before, never), e => isError(e, 'SV_ATTACHMENT_NOT_FOUND'));
  await rig.engine.execute({ ...leave, until: new Date().toISOString() }, never);

  assert.equal(rig.engine.list()[0]?.status.state, 'detached');
});

test('one volume that is busy does not keep what was let go of before, and asked again the rest goes', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 3_000_000);
  for (const target of ['/mnt/long-name', '/mnt/data']) await rig.engine.execute(attach(target), never);
  rig.host.busyInside.add('/mnt/data');
  const leave = { action: 'detach', instance: { ref: 'c1' }, all: true, lazy: false, requestId: 'r1' } as const;

  await assert.rejects(rig.engine.execute(leave, never), e => isError(e, 'SV_BUSY'));
  rig.host.busyInside.clear();
  await rig.engine.execute(leave, never);

  assert.ok(rig.engine.list().every(a => a.status.state === 'detached'));
});

test('a root is made anew when its container is gone, never under one that is there, and only once a request', async () => {
  using rig = makeRig();
  await rig.engine.execute({ action: 'spawn', instance: { ref: 'c1' }, source }, never);
  const [before] = rig.engine.list();
  const ids = rig.store.allocation('c1' as InstanceKey);
  rig.host.addInstance('c1', 3_000_000);
  const anew = { action: 'spawn', instance: { ref: 'c1' }, source, anew: true, requestId: 'r1' } as const;

  await assert.rejects(rig.engine.execute(anew, never), e => isError(e, 'SV_BUSY'));
  assert.deepEqual(rig.engine.list()[0]?.createdAt, before?.createdAt);
  rig.host.instances.clear();
  const lost = { ...anew, source: { kind: 'template', template: 'none' }, requestId: 'r2' } as const;
  await assert.rejects(rig.engine.execute(lost, never), e => isError(e, 'SV_TEMPLATE_NOT_FOUND'));
  assert.equal(rig.host.snapshots.size, 1, 'what there is nothing for stays');

  const made = await rig.engine.execute(anew, never);
  assert.equal(made.changed, true);
  assert.deepEqual(rig.store.allocation('c1' as InstanceKey), ids, 'its ids stay');
  assert.equal((await rig.engine.execute(anew, never)).changed, false);
});

test('that an instance has come is noted with its root, and told with how long it was down', async () => {
  using rig = makeRig();
  const spawn = { action: 'spawn', instance: { ref: 'c9' }, source } as const;
  await rig.engine.execute(spawn, never);

  await rig.engine.noteMove({ instance: { ref: 'c9' }, from: 'node1', downMs: 1234, requestId: 'req-1' }, never);

  const [root] = rig.engine.list();
  assert.ok(root?.status.state === 'attached');
  assert.deepEqual([root.status.moved?.from, root.status.moved?.downMs], ['node1', 1234]);
  const told = rig.store.pending(100).at(-1)?.event;
  assert.deepEqual(
    [told?.action, told?.phase, told?.durationMs, told?.attachmentId, told?.template, told?.requestId],
    ['move', 'end', 1234, root.plan.id, 'web', 'req-1'],
  );
  await assert.rejects(rig.engine.noteMove({ instance: { ref: 'c8' }, from: 'node1', downMs: 1 }, never), e =>
    isError(e, 'SV_ATTACHMENT_NOT_FOUND'),
  );
});
