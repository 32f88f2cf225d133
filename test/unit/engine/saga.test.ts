import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AttachCommand, Command, SpawnCommand } from '../../../src/engine/model.ts';
import type { WrapStep } from '../../../src/engine/saga.ts';
import { isError } from '../../../src/errors.ts';
import { changeStep, doTwice, failAfter, failBefore, Injected, undoTwice } from '../../rig/faults.ts';
import { makeRig, type Rig } from './fakes.ts';

const ATTACH: AttachCommand = {
  action: 'attach',
  instance: { ref: 'c1' },
  target: '/mnt/data',
  source: { kind: 'template', template: 'web' },
  readOnly: false,
};
const SPAWN: SpawnCommand = { action: 'spawn', instance: { ref: 'c9' }, template: 'web' };
const STEPS = ['snapshot', 'device', 'mount', 'handoff'] as const;
const never = new AbortController().signal;

function rigWith(wrapStep?: WrapStep): Rig {
  const rig = makeRig(wrapStep);
  rig.host.addInstance('c1', 2_000_000);
  return rig;
}

function assertNothing(rig: Rig): void {
  rig.host.assertClean();
  assert.deepEqual(rig.store.list(), []);
  assert.deepEqual(rig.store.allocations(), []);
}

for (const [name, command] of [
  ['attach', ATTACH],
  ['spawn', SPAWN],
] as const satisfies readonly (readonly [string, Command])[]) {
  describe(`the saga of ${name}`, () => {
    for (const step of STEPS) {
      test(`leaves nothing when it fails before "${step}"`, async () => {
        using rig = rigWith(failBefore(step));
        await assert.rejects(rig.engine.execute(command, never), /before/);
        assertNothing(rig);
      });

      test(`leaves nothing when it fails after "${step}", even with each undo done twice`, async () => {
        const fail = failAfter(step);
        using rig = rigWith(s => undoTwice(fail(s)));
        await assert.rejects(rig.engine.execute(command, never), /after/);
        assertNothing(rig);
      });

      test(`comes to the same when "${step}" is done twice`, async () => {
        using rig = rigWith(doTwice(step));
        const { attachments } = await rig.engine.execute(command, never);
        assert.equal(attachments[0]?.status.state, 'attached');
        await rig.engine.execute({ action: 'destroy', instance: command.instance, lazy: false }, never);
        assertNothing(rig);
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
        using rig = rigWith(s => undoFails(fail(s)));
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
        assertNothing(rig);
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
