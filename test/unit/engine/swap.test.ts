import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Attachment, Connection } from '../../../src/engine/model.ts';
import type { WrapStep } from '../../../src/engine/saga.ts';
import type { SwapRequest } from '../../../src/engine/swap.ts';
import { isError, ShiftvolError } from '../../../src/errors.ts';
import { failAfter, failBefore, undoTwice } from '../../rig/faults.ts';
import { makeRig, type Rig } from './fakes.ts';

const never = new AbortController().signal;
const connection = (name: string): Connection => ({
  type: 'nfs',
  volumeId: `id-${name}`,
  name,
  kind: 'file',
  readOnly: false,
  facts: {},
});
const OLD = connection('old');
const NEW = connection('new');
const instance = { ref: 'c1' };
const REQUEST: SwapRequest = { instance, volumeId: OLD.volumeId, connection: NEW, grows: false, requestId: 'req-1' };

async function attached(rig: Rig, isRunning = true): Promise<Attachment> {
  rig.host.addInstance('c1', 1_000_000);
  const source = { kind: 'connection', connection: OLD } as const;
  await rig.engine.execute(
    { action: 'attach', instance, target: '/mnt/a', source, readOnly: false, volumeId: OLD.volumeId },
    never,
  );
  rig.host.contents.set('/here/old', 'data');
  if (!isRunning) stop(rig);
  const [attachment] = rig.store.list();
  assert.ok(attachment);
  return attachment;
}

function stop(rig: Rig): void {
  const found = rig.host.instances.get('c1');
  assert.ok(found);
  const { pid: _, ...rest } = found;
  rig.host.instances.set('c1', { ...rest, running: false });
}

/** Exactly this volume is what the instance has. */
function assertHas(rig: Rig, { name }: Connection): void {
  const [now, ...more] = rig.store.list();
  assert.ok(now);
  assert.deepEqual(more, []);
  assert.equal(now.status.state, 'attached');
  assert.equal(now.plan.image.path, name);
  assert.deepEqual([...rig.host.connected], [name]);
  assert.deepEqual(
    [...rig.host.mounts].map(([path, m]) => [path, m.image]),
    [[now.plan.mountPath, `/here/${name}`]],
  );
  assert.deepEqual(
    [...rig.host.devices.values()].map(d => d.target),
    ['/mnt/a'],
  );
  assert.deepEqual([...rig.host.frozen], []);
  assert.deepEqual(rig.store.tasks(), []);
  assert.equal(rig.host.contents.get(`/here/${name}`), 'data');
}

async function cleanUp(rig: Rig): Promise<void> {
  await rig.engine.execute({ action: 'detach', instance, target: '/mnt/a', lazy: false }, never);
  assert.deepEqual(rig.store.list(), []);
  rig.host.assertClean();
}

for (const isRunning of [true, false])
  test(`another volume takes the place of one, ${isRunning ? 'frozen' : 'unmounted'} while it is copied`, async () => {
    using rig = makeRig();
    const before = await attached(rig, isRunning);

    const { plan } = await rig.engine.swapVolume({ ...REQUEST, grows: true }, never);
    const again = await rig.engine.swapVolume(REQUEST, never);

    assert.deepEqual([plan.id, plan.volumeId, plan.formerVolumeId], [before.plan.id, NEW.volumeId, OLD.volumeId]);
    assert.deepEqual([plan.mountPath, again.plan.id], [before.plan.mountPath, plan.id]);
    assertHas(rig, NEW);
    assert.deepEqual(rig.host.grown, [plan.mountPath]);
    const told = rig.store.pending(20).map(({ event }) => `${event.action}.${event.phase} ${event.requestId}`);
    assert.deepEqual(told.slice(-2), ['swap.start req-1', 'swap.end req-1']);
    await cleanUp(rig);
  });

for (const isRunning of [true, false])
  for (const step of ['device', 'mount', 'handoff'])
    for (const [when, fail] of [
      ['before', failBefore],
      ['after', failAfter],
    ] as const)
      test(`a failure ${when} "${step}" of the new one puts the old one back (${isRunning ? 'running' : 'stopped'})`, async () => {
        let broken = false;
        const faulty = fail(step);
        // Only what is done for the new volume fails.
        const wrap: WrapStep = s => {
          const bad = faulty(s);
          return undoTwice({
            ...s,
            do: (input, signal) => {
              const { plan } = input as { plan: { volumeId?: string } };
              return (broken && plan.volumeId === NEW.volumeId ? bad : s).do(input, signal);
            },
          });
        };
        using rig = makeRig(wrap);
        await attached(rig, isRunning);
        broken = true;

        await assert.rejects(rig.engine.swapVolume(REQUEST, never), new RegExp(when));

        assertHas(rig, OLD);
        await cleanUp(rig);
      });

for (const isRunning of [true, false])
  for (const step of ['copy', 'device', 'mount', 'handoff', 'undo device', 'undo mount'])
    test(`an engine that dies in "${step}" leaves the old one, and the new one is let go (${isRunning ? 'running' : 'stopped'})`, async () => {
      let dies = false;
      const { promise: dead, resolve: died } = Promise.withResolvers<void>();
      const die = async (): Promise<never> => {
        died();
        return await new Promise(() => undefined);
      };
      const wrap: WrapStep = s => ({
        ...s,
        do: async (input, signal) => {
          const done = await s.do(input, signal);
          return dies && s.name === step ? await die() : done;
        },
        undo: async (plan, options) => {
          await s.undo(plan, options);
          if (dies && `undo ${s.name}` === step) await die();
        },
      });
      using rig = makeRig(wrap);
      await attached(rig, isRunning);
      dies = true;
      if (step === 'copy') rig.host.copying = die;
      void rig.engine.swapVolume(REQUEST, never);
      await dead;
      rig.host.copying = async () => undefined;

      rig.restart();
      const { tasks, attachments } = await rig.engine.recover({ dryRun: false, signal: never });

      assert.deepEqual(
        [...tasks, ...attachments].filter(r => r.did === 'left'),
        [],
      );
      // One whose last step was done is ended, not taken back.
      assertHas(rig, step === 'handoff' ? NEW : OLD);
      await cleanUp(rig);
    });

test('after a reboot in the middle of a swap the old one waits for Nova, as any other: it may be on another host by now', async () => {
  using rig = makeRig();
  await attached(rig);
  const { promise: reached, resolve } = Promise.withResolvers<void>();
  rig.host.copying = async () => {
    resolve();
    await new Promise(() => undefined);
  };
  void rig.engine.swapVolume(REQUEST, never);
  await reached;
  for (const gone of [rig.host.mounts, rig.host.connected, rig.host.frozen]) gone.clear();
  stop(rig);
  rig.host.own = false;

  rig.restart();
  const { tasks, attachments } = await rig.engine.recover({ dryRun: false, signal: never });

  assert.deepEqual([tasks.map(t => t.did), attachments.map(a => a.did)], [['undone'], ['waits']]);
  assert.deepEqual([[...rig.host.mounts], [...rig.host.connected], rig.store.tasks()], [[], [], []]);
  assert.equal(rig.store.list()[0]?.plan.volumeId, OLD.volumeId);
});

test('a volume that a process in the instance holds stays where it is, and the remedy is to stop the instance', async () => {
  using rig = makeRig();
  await attached(rig);
  rig.host.busyInside.add('/mnt/a');

  await assert.rejects(
    rig.engine.swapVolume(REQUEST, never),
    e => isError(e, 'SV_BUSY') && e.remedy?.startsWith('stop the instance') === true,
  );

  assert.equal(rig.host.contents.has('/here/new'), false, 'nothing that stands in the way of the next try');
  rig.host.busyInside.clear();
  assertHas(rig, OLD);
  await cleanUp(rig);
});

test('a copy that moved before its end is not used', async () => {
  using rig = makeRig();
  await attached(rig);
  rig.host.copying = async () => {
    rig.host.frozen.clear();
    throw new ShiftvolError('SV_CANCELLED', 'aborted');
  };

  await assert.rejects(rig.engine.swapVolume(REQUEST, never), e => isError(e, 'SV_TIMEOUT'));

  rig.host.copying = async () => undefined;
  assertHas(rig, OLD);
  await cleanUp(rig);
});

test('what is on the new one is never written over, and a smaller one is refused', async () => {
  using rig = makeRig();
  await attached(rig);
  rig.host.contents.set('/here/new', 'somebody’s');
  await assert.rejects(rig.engine.swapVolume(REQUEST, never), e => isError(e, 'SV_IMAGE_REFUSED'));
  assert.equal(rig.host.contents.get('/here/new'), 'somebody’s');
  rig.host.contents.delete('/here/new');

  rig.host.sizes.set('/here/new', 1 << 19);
  await assert.rejects(rig.engine.swapVolume(REQUEST, never), e => isError(e, 'SV_IMAGE_REFUSED'));

  assertHas(rig, OLD);
  await cleanUp(rig);
});

test('what cannot be done in time is refused before anything stands still', async () => {
  using rig = makeRig();
  await attached(rig);
  for (const name of ['old', 'new']) rig.host.sizes.set(`/here/${name}`, 2 ** 40);

  await assert.rejects(rig.engine.swapVolume(REQUEST, never), e => isError(e, 'SV_TIMEOUT'));

  assertHas(rig, OLD);
  await cleanUp(rig);
});

test('volumes that cannot be swapped safely are refused by name, before anything is connected', async () => {
  for (const [change, name] of [
    [{ encryption: { provider: 'luks' } }, /encrypted/],
    [{ readOnly: true }, /read-only/],
  ] as const) {
    using rig = makeRig();
    await attached(rig);
    await assert.rejects(
      rig.engine.swapVolume({ ...REQUEST, connection: { ...NEW, ...change } }, never),
      e => isError(e, 'SV_RUNTIME_UNSUPPORTED') && name.test(e.message),
    );
    assertHas(rig, OLD);
  }
});
