/** The saga on the real kernel, pool and LXD: every step fails before and after its effect, is done twice, is undone twice; and dies. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { AttachCommand, Command, SpawnCommand, StepName } from '../../src/engine/model.ts';
import type { WrapStep } from '../../src/engine/saga.ts';
import { isError } from '../../src/errors.ts';
import { viewOf } from '../../src/http/view.ts';
import { readConnection } from '../../src/storage/connect/info.ts';
import { changeStep, doTwice, failAfter, failBefore, Injected, undoTwice } from '../rig/faults.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { assertListIsTrue } from './consistent.ts';
import { makeWorld, type World } from './world.ts';

const never = new AbortController().signal;
const STEPS = ['snapshot', 'device', 'mount', 'handoff'] as const;
const CONNECTION_STEPS = ['connect', 'device', 'mount', 'handoff'] as const;
const SHARE = '127.0.0.1:/export';
const ATTACH: AttachCommand = {
  action: 'attach',
  instance: { ref: 'c1' },
  target: '/mnt/data',
  source: { kind: 'template', template: 'web' },
  readOnly: false,
};
const SPAWN: SpawnCommand = { action: 'spawn', instance: { ref: 's1' }, template: 'web' };
/** A volume on a share that Cinder has mounted on this host; where, `before` decides. */
const connect = (): AttachCommand => ({
  ...ATTACH,
  source: {
    kind: 'connection',
    connection: readConnection({
      driver_volume_type: 'nfs',
      serial: '11111111-aaaa-bbbb-cccc-222222222222',
      data: { export: SHARE, name: 'volume-1', format: 'raw', mount_point_base: join(world.dir, 'mnt') },
    }).connection,
  },
});
let world: World;
let clean: HostState;
let unmountShare = (): void => {};

before(async () => {
  world = await makeWorld();
  await world.addTemplate('web', { files: 20 });
  await world.lxd.launch('c1');
  unmountShare = mountShare();
  await using host = await world.engine();
  assert.deepEqual(host.engine.list(), []);
  clean = hostState(world.dir);
});
after(async () => {
  unmountShare();
  await world?.[Symbol.asyncDispose]();
});

/** One directory in another's place, which to the kernel is what a share is: a mount of its own. */
function mountShare(): () => void {
  const from = join(world.dir, 'export');
  const to = join(world.dir, 'mnt', createHash('md5').update(SHARE).digest('hex'));
  for (const dir of [from, to]) mkdirSync(dir, { recursive: true });
  execFileSync('mount', ['--bind', from, to]);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', join(to, 'volume-1'), '32M']);
  return () => void execFileSync('umount', [to]);
}

const injected = (error: unknown) => isError(error, 'SV_INTERNAL') && error.cause instanceof Injected;

async function run(wrapStep: WrapStep, ...commands: readonly Command[]): Promise<void> {
  await using host = await world.engine(deps => ({ ...deps, wrapStep }));
  for (const command of commands) await host.engine.execute(command, never);
}

async function assertNothing(): Promise<void> {
  await using host = await world.engine();
  assert.deepEqual(host.engine.list(), []);
  assert.deepEqual(host.store.allocations(), []);
  await assertListIsTrue(world, []);
  await assertHostUnchanged(clean);
}

for (const [name, make, steps] of [
  ['attach', () => ATTACH, STEPS],
  ['attach of a connection', connect, CONNECTION_STEPS],
  ['spawn', () => SPAWN, STEPS],
] as const satisfies readonly (readonly [string, () => Command, readonly StepName[]])[]) {
  describe(`the saga of ${name}`, () => {
    let command: Command;
    let destroy: Command;
    before(() => {
      command = make();
      destroy = { action: 'destroy', instance: command.instance, lazy: false };
    });

    for (const step of steps) {
      test(`leaves nothing when it fails before "${step}"`, async () => {
        await assert.rejects(run(failBefore(step), command), injected);
        await assertNothing();
      });

      test(`leaves nothing when it fails after "${step}", with each undo done twice`, async () => {
        const fail = failAfter(step);
        await assert.rejects(
          run(s => undoTwice(fail(s)), command),
          injected,
        );
        await assertNothing();
      });

      test(`comes to one effect when "${step}" is done twice`, async () => {
        await run(doTwice(step), command);
        {
          await using host = await world.engine();
          await assertListIsTrue(world, host.engine.list().map(viewOf));
        }
        await run(undoTwice, destroy);
        await assertNothing();
      });

      test(`stays open when the undo of "${step}" fails, and recover finishes`, async () => {
        const fail = failAfter('handoff');
        const stuck = changeStep(step, () => ({ undo: () => Promise.reject(new Injected(step)) }));
        await assert.rejects(
          run(s => stuck(fail(s)), command),
          e => e instanceof SuppressedError && isError(e.error, 'SV_UNDO'),
        );
        {
          await using host = await world.engine();
          assert.equal(host.engine.list()[0]?.status.state, 'undoing');
          const { attachments } = await host.engine.recover({ dryRun: false, signal: never });
          assert.deepEqual(
            attachments.map(a => a.did),
            ['undone'],
          );
        }
        await assertNothing();
      });

      for (const when of ['before', 'after'])
        test(`dies by SIGKILL ${when} "${step}", and recover ends it`, async () => {
          const died = spawnSync(
            process.execPath,
            [new URL('dying-engine.ts', import.meta.url).pathname, `${step}:do:${when}`, JSON.stringify(command)],
            { env: world.env },
          );
          assert.equal(died.signal, 'SIGKILL', died.stderr.toString());
          {
            await using host = await world.engine();
            const { attachments } = await host.engine.recover({ dryRun: false, signal: never });
            await assertListIsTrue(world, host.engine.list().map(viewOf));
            const { changed } = await host.engine.execute(command, never);
            // Complete but for the last note in the journal: finished, not undone.
            assert.deepEqual(
              attachments.map(a => a.did),
              [changed ? 'undone' : 'finished'],
            );
            assert.equal(
              changed,
              !(when === 'after' && step === 'handoff') &&
                !(name === 'spawn' && (step === 'handoff' || `${when} ${step}` === 'after mount')),
            );
            await assertListIsTrue(world, host.engine.list().map(viewOf));
            await host.engine.execute(destroy, never);
          }
          await assertNothing();
        });

      for (const when of ['before', 'after'])
        test(`dies by SIGKILL ${when} the undo of "${step}" while it is destroyed, and recover ends it`, async () => {
          const commands = [JSON.stringify(command), JSON.stringify(destroy)];
          const died = spawnSync(
            process.execPath,
            [new URL('dying-engine.ts', import.meta.url).pathname, `${step}:undo:${when}`, ...commands],
            { env: world.env },
          );
          // Snapshots are not undone by a destroy, they are removed: nothing to die at.
          if (step === 'snapshot') assert.equal(died.status, 0, died.stderr.toString());
          else assert.equal(died.signal, 'SIGKILL', died.stderr.toString());
          {
            await using host = await world.engine();
            await host.engine.recover({ dryRun: false, signal: never });
            await assertListIsTrue(world, host.engine.list().map(viewOf));
            if (host.engine.list().length > 0) await host.engine.execute(destroy, never);
          }
          await assertNothing();
        });
    }
  });
}
