import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AttachCommand, Command, Connection, SpawnCommand, StepName } from '../../../src/engine/model.ts';
import type { WrapStep } from '../../../src/engine/saga.ts';
import { Secrets } from '../../../src/engine/secrets.ts';
import { isError } from '../../../src/errors.ts';
import { changeStep, doTwice, failAfter, failBefore, Injected, undoTwice } from '../../rig/faults.ts';
import { makeRig, type Rig, TEMPLATE } from './fakes.ts';

const ATTACH: AttachCommand = {
  action: 'attach',
  instance: { ref: 'c1' },
  target: '/mnt/data',
  source: { kind: 'template', template: 'web' },
  readOnly: false,
};
const SPAWN: SpawnCommand = { action: 'spawn', instance: { ref: 'c9' }, template: 'web' };
const VOLUME: Connection = {
  type: 'nfs',
  volumeId: '11111111-aaaa-bbbb-cccc-222222222222',
  name: '/mnt/shares/volume-1',
  kind: 'file',
  readOnly: false,
  facts: { share: 'filer:/export' },
};
const CONNECT: AttachCommand = { ...ATTACH, source: { kind: 'connection', connection: VOLUME } };
const STEPS = ['snapshot', 'device', 'mount', 'handoff'] as const;
const CONNECTION_STEPS = ['connect', 'device', 'mount', 'handoff'] as const;
const never = new AbortController().signal;

function rigWith(wrapStep?: WrapStep): Rig {
  const rig = makeRig(wrapStep);
  rig.host.addInstance('c1', 2_000_000);
  return rig;
}

/** One where a snapshot is ready beforehand. */
async function rigWithSpare(wrapStep?: WrapStep): Promise<Rig> {
  const rig = makeRig(wrapStep, undefined, 1);
  rig.host.addInstance('c1', 2_000_000);
  assert.equal(rig.spares?.take(TEMPLATE, 'web/nobody'), undefined);
  await rig.spares?.ready();
  assert.equal(rig.host.staged.size, 1);
  return rig;
}

async function assertNothing(rig: Rig): Promise<void> {
  await rig.spares?.[Symbol.asyncDispose]();
  rig.host.assertClean();
  assert.deepEqual(rig.store.list(), []);
  assert.deepEqual(rig.store.allocations(), []);
}

type Making = (wrapStep?: WrapStep) => Rig | Promise<Rig>;
for (const [name, command, steps, make] of [
  ['attach', ATTACH, STEPS, rigWith],
  ['attach of what is ready', ATTACH, STEPS, rigWithSpare],
  ['attach of a connection', CONNECT, CONNECTION_STEPS, rigWith],
  ['spawn', SPAWN, STEPS, rigWith],
  ['spawn of what is ready', SPAWN, STEPS, rigWithSpare],
] as const satisfies readonly (readonly [string, Command, readonly StepName[], Making])[]) {
  describe(`the saga of ${name}`, () => {
    for (const step of steps) {
      test(`leaves nothing when it fails before "${step}"`, async () => {
        using rig = await make(failBefore(step));
        await assert.rejects(rig.engine.execute(command, never), /before/);
        await assertNothing(rig);
      });

      test(`leaves nothing when it fails after "${step}", even with each undo done twice`, async () => {
        const fail = failAfter(step);
        using rig = await make(s => undoTwice(fail(s)));
        await assert.rejects(rig.engine.execute(command, never), /after/);
        await assertNothing(rig);
      });

      test(`comes to the same when "${step}" is done twice`, async () => {
        using rig = await make(doTwice(step));
        const { attachments } = await rig.engine.execute(command, never);
        assert.equal(attachments[0]?.status.state, 'attached');
        await rig.engine.execute({ action: 'destroy', instance: command.instance, lazy: false }, never);
        await assertNothing(rig);
      });

      test(`stays open when the undo of "${step}" fails, and recover finishes`, async () => {
        let broken = true;
        const fail = failAfter('handoff');
        const undoFails = changeStep(step, s => ({
          undo: async (plan, options) => {
            if (broken) throw new Injected(`undo of ${step}`);
            await s.undo(plan, options);
          },
        }));
        using rig = await make(s => undoFails(fail(s)));
        await assert.rejects(
          rig.engine.execute(command, never),
          e => e instanceof SuppressedError && isError(e.error, 'SV_UNDO'),
        );
        assert.equal(rig.store.list()[0]?.status.state, 'undoing');
        const stuck = await rig.engine.recover({ dryRun: false, signal: never });
        assert.equal(stuck.attachments[0]?.did, 'left');

        broken = false;
        const { attachments } = await rig.engine.recover({ dryRun: false, signal: never });

        assert.deepEqual(
          attachments.map(a => a.did),
          ['undone'],
        );
        await assertNothing(rig);
      });
    }
  });
}

test('an attachment that died before its end was noted is finished, and one that died earlier is undone', async () => {
  for (const [step, did, state] of [
    ['handoff', 'finished', 'attached'],
    ['mount', 'undone', undefined],
    ['snapshot', 'undone', undefined],
  ] as const) {
    // A process that dies neither returns nor throws: the step's promise stays open, and the journal is opened anew.
    const { promise: died, resolve: die } = Promise.withResolvers<void>();
    using rig = rigWith(
      changeStep(step, s => ({
        do: async (input, signal) => {
          await s.do(input, signal);
          die();
          return await new Promise<never>(() => undefined);
        },
      })),
    );
    void rig.engine.execute({ ...ATTACH, requestId: 'r1' }, never);
    await died;

    rig.restart();
    const recovered = await rig.engine.recover({ dryRun: false, signal: never });

    assert.equal(recovered.attachments[0]?.did, did, step);
    assert.equal(rig.store.interrupted, 1);
    assert.equal(rig.store.list()[0]?.status.state, state);
    const { attachments } = await rig.engine.execute({ ...ATTACH, requestId: 'r1' }, never);
    assert.equal(attachments[0]?.status.state, 'attached');
    assert.equal(rig.host.mounts.size, 1);
  }
});

test('a step is journaled before it begins', async () => {
  const seen: string[] = [];
  let rig: Rig | undefined;
  const look: WrapStep = step => ({
    ...step,
    do: async (input, signal) => {
      const status = rig?.store.list()[0]?.status;
      seen.push(status?.state === 'attaching' ? status.step : 'nothing');
      return await step.do(input, signal);
    },
  });
  rig = rigWith(look);
  using _ = rig;
  await rig.engine.execute(ATTACH, never);
  assert.deepEqual(seen, STEPS);
});

test('a volume that is to be connected is let go by a detach, and connected again after a reboot', async () => {
  using rig = rigWith();
  await rig.engine.execute({ ...CONNECT, secrets: new Secrets({ chapPassword: 'geheim' }) }, never);
  const [attached] = rig.store.list();
  assert.equal(attached?.plan.volumeId, VOLUME.volumeId);
  assert.equal(attached?.plan.image.path, VOLUME.name);
  assert.doesNotMatch(JSON.stringify(rig.store.list()), /geheim/);
  rig.host.mounts.clear();
  rig.host.connected.clear();

  const { attachments } = await rig.engine.recover({ dryRun: false, signal: never });

  assert.deepEqual(
    attachments.map(a => a.did),
    ['mounted again'],
  );
  assert.deepEqual([...rig.host.connected], [VOLUME.name]);
  await rig.engine.execute(
    { action: 'detach', instance: { ref: 'c1' }, volumeId: VOLUME.volumeId, lazy: false },
    never,
  );
  await assertNothing(rig);
});

test('one volume is connected for one attachment: a second one is refused, and the first one keeps it', async () => {
  using rig = rigWith();
  await rig.engine.execute(CONNECT, never);

  await assert.rejects(rig.engine.execute({ ...CONNECT, target: '/mnt/other' }, never), e =>
    isError(e, 'SV_VOLUME_IN_USE'),
  );

  assert.deepEqual([...rig.host.connected], [VOLUME.name]);
});

test('a volume that the service gives for reading only is attached read-only', async () => {
  using rig = rigWith();
  const readOnly = { ...CONNECT, source: { kind: 'connection', connection: { ...VOLUME, readOnly: true } } } as const;
  const { attachments } = await rig.engine.execute(readOnly, never);
  assert.equal(attachments[0]?.plan.readOnly, true);

  const again = await rig.engine.execute(readOnly, never);
  assert.equal(again.changed, false);
});
