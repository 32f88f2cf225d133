import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AttachCommand, DetachCommand } from '../../../src/engine/model.ts';
import type { WrapStep } from '../../../src/engine/saga.ts';
import { explain, isError } from '../../../src/errors.ts';
import { makeRig } from './fakes.ts';

const never = new AbortController().signal;
const attach = (ref: string, target = '/mnt/data', more: Partial<AttachCommand> = {}): AttachCommand => ({
  action: 'attach',
  instance: { ref },
  target,
  source: { kind: 'template', template: 'web' },
  readOnly: false,
  ...more,
});
const detach = (ref: string, target = '/mnt/data', more: Partial<DetachCommand> = {}): DetachCommand => ({
  action: 'detach',
  instance: { ref },
  target,
  lazy: false,
  ...more,
});

test('the same request twice is one attachment', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  const first = await rig.engine.execute(attach('c1', '/mnt/data', { requestId: 'r1' }), never);
  const again = await rig.engine.execute(attach('c1', '/mnt/data', { requestId: 'r1' }), never);
  const other = await rig.engine.execute(attach('c1'), never);

  assert.deepEqual([first.changed, again.changed, other.changed], [true, false, false]);
  assert.equal(again.attachments[0]?.plan.id, first.attachments[0]?.plan.id);
  assert.equal(rig.host.mounts.size, 1);
});

test('a failure is told unless the caller has no use for it; what has begun is told in any case', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  const told = async () => {
    await rig.store.flushed();
    return rig.store.pending(100).map(({ event }) => `${event.action}.${event.phase}`);
  };
  const nobody = { action: 'destroy', instance: { ref: 'nobody' }, lazy: false } as const;
  await assert.rejects(rig.engine.execute(nobody, never, () => false));
  assert.deepEqual(await told(), []);
  await assert.rejects(rig.engine.execute(nobody, never));
  assert.deepEqual(await told(), ['destroy.error']);

  await rig.engine.execute(attach('c1'), never);
  rig.host.busyInside.add('/mnt/data');
  await assert.rejects(rig.engine.execute(detach('c1'), never, () => false));
  assert.deepEqual(await told(), ['destroy.error', 'attach.start', 'attach.end', 'detach.start', 'detach.error']);
});

test('a target that holds something else is refused, and nothing changes', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  await rig.engine.execute(attach('c1'), never);
  await assert.rejects(
    rig.engine.execute(attach('c1', '/mnt/data', { source: { kind: 'file', path: '/srv/vol.raw' } }), never),
    e => isError(e, 'SV_TARGET_TAKEN'),
  );
  assert.equal(rig.host.mounts.size, 1);
});

test('a detach keeps the snapshot, and attaching again finds it', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  await rig.engine.execute(attach('c1'), never);
  const taken = await rig.engine.execute(detach('c1'), never);
  assert.equal(taken.attachments[0]?.status.state, 'detached');
  assert.equal(rig.host.mounts.size, 0);
  assert.equal(rig.host.snapshots.size, 1);

  const again = await rig.engine.execute(attach('c1'), never);
  assert.equal(again.attachments[0]?.status.state, 'attached');
  await rig.engine.execute({ action: 'destroy', instance: { ref: 'c1' }, lazy: false }, never);
  rig.host.assertClean();
});

test('attaching again that fails leaves the kept snapshot', async () => {
  let fail = false;
  const wrap: WrapStep = step =>
    step.name === 'mount'
      ? { ...step, do: async (i, s) => (fail ? Promise.reject(new Error('no')) : step.do(i, s)) }
      : step;
  using rig = makeRig(wrap);
  rig.host.addInstance('c1', 2_000_000);
  await rig.engine.execute(attach('c1'), never);
  await rig.engine.execute(detach('c1'), never);
  fail = true;
  await assert.rejects(rig.engine.execute(attach('c1'), never));
  assert.equal(rig.store.list()[0]?.status.state, 'detached');
  assert.equal(rig.host.snapshots.size, 1);
});

test('a busy detach names the holder and changes nothing; lazy takes it away', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  await rig.engine.execute(attach('c1'), never);
  rig.host.busyInside.add('/mnt/data');

  await assert.rejects(
    rig.engine.execute(detach('c1'), never),
    e => isError(e, 'SV_BUSY') && /77 \(sleep\)/.test(explain(e)),
  );
  assert.equal(rig.store.list()[0]?.status.state, 'attached');
  assert.equal(rig.host.devices.size, 1);

  await rig.engine.execute(detach('c1', '/mnt/data', { lazy: true }), never);
  assert.equal(rig.host.mounts.size, 0);
});

test('a detach that finds the host path busy gives the container its device back', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  const { attachments } = await rig.engine.execute(attach('c1'), never);
  rig.host.busyOutside.add(attachments[0]?.plan.mountPath ?? '');

  await assert.rejects(rig.engine.execute(detach('c1'), never), e => isError(e, 'SV_BUSY'));
  assert.equal(rig.store.list()[0]?.status.state, 'attached');
  assert.equal(rig.host.devices.size, 1);
});

test('commands of one instance keep their order, those of others do not wait', async () => {
  const order: string[] = [];
  const { promise: open, resolve } = Promise.withResolvers<void>();
  const wrap: WrapStep = step => ({
    ...step,
    do: async (input, signal) => {
      if (step.name === 'mount') {
        const { plan } = input as { plan: { instance: string; target: string } };
        if (plan.target === '/slow') await open;
        order.push(`${plan.instance}:${plan.target}`);
      }
      return await step.do(input, signal);
    },
  });
  using rig = makeRig(wrap);
  rig.host.addInstance('c1', 2_000_000);
  rig.host.addInstance('c2', 3_000_000);
  const all = [rig.engine.execute(attach('c1', '/slow'), never), rig.engine.execute(attach('c1', '/fast'), never)];
  await rig.engine.execute(attach('c2'), never);
  resolve();
  await Promise.all(all);
  assert.deepEqual(order, ['c2:/mnt/data', 'c1:/slow', 'c1:/fast']);
});

test('a failure that will not pass is the answer to the same request; one that may pass is tried again', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  const wrong = attach('c1', '/proc/no', { requestId: 'r1' });
  await assert.rejects(rig.engine.execute(wrong, never), e => isError(e, 'SV_TARGET_INVALID'));
  await assert.rejects(rig.engine.execute({ ...wrong, target: '/mnt/data' }, never), e =>
    isError(e, 'SV_TARGET_INVALID'),
  );
  assert.equal(rig.store.request('r1')?.result.state, 'failed');

  const early = attach('c2', '/mnt/data', { requestId: 'r2' });
  await assert.rejects(rig.engine.execute(early, never), e => isError(e, 'SV_INSTANCE_NOT_FOUND'));
  rig.host.addInstance('c2', 3_000_000);
  assert.equal((await rig.engine.execute(early, never)).changed, true);
});

test('every outcome is told once, in order: start, then end or error', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  await rig.engine.execute(attach('c1'), never);
  await rig.engine.execute(detach('c1'), never);
  await assert.rejects(rig.engine.execute(attach('nobody'), never), e => isError(e, 'SV_INSTANCE_NOT_FOUND'));
  const told = rig.store.pending(100).map(({ event }) => `${event.action}.${event.phase}`);
  assert.deepEqual(told, ['attach.start', 'attach.end', 'detach.start', 'detach.end', 'attach.error']);
});

test('a saga that fails is told once', async () => {
  using rig = makeRig(step =>
    step.name === 'mount' ? { ...step, do: async () => Promise.reject(new Error('no')) } : step,
  );
  rig.host.addInstance('c1', 2_000_000);
  await assert.rejects(rig.engine.execute(attach('c1'), never));
  assert.deepEqual(
    rig.store.pending(100).map(({ event }) => event.phase),
    ['start', 'error'],
  );
});

test('a spawn reserves ids that overlap nobody, destroy gives them back, and an exhausted pool says so', async () => {
  using rig = makeRig(undefined, 2 * 65536);
  rig.host.addInstance('c1', 1_048_576 - 48_576);
  const one = await rig.engine.execute({ action: 'spawn', instance: { ref: 's1' }, template: 'web' }, never);
  const base = one.attachments[0]?.plan.idmap[0]?.hostId;
  assert.equal(base, 1_000_000 + 65536);
  await assert.rejects(rig.engine.execute({ action: 'spawn', instance: { ref: 's2' }, template: 'web' }, never), e =>
    isError(e, 'SV_RANGE_EXHAUSTED'),
  );
  await rig.engine.execute({ action: 'destroy', instance: { ref: 's1' }, lazy: false }, never);
  assert.deepEqual(rig.store.allocations(), []);
  rig.host.assertClean();
});

test('dry run prints the objects and touches nothing', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 2_000_000);
  const preview = await rig.engine.preview(attach('c1'), never);
  assert.deepEqual(
    preview.steps.map(s => s.call),
    [
      'ioctl(FICLONE)',
      'ioctl(LOOP_CONFIGURE)',
      'fsopen+fsconfig+fsmount',
      'mount_setattr(MOUNT_ATTR_IDMAP)',
      'move_mount',
      'fake device add',
    ],
  );
  rig.host.assertClean();
  assert.deepEqual(rig.store.list(), []);
});
