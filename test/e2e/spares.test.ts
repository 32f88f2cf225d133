/** Snapshots that are ready before anybody asks, on the real kernel, pool and LXD. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../../src/cli/assemble.ts';
import type { AttachCommand, DestroyCommand, FsType } from '../../src/engine/model.ts';
import type { WrapStep } from '../../src/engine/saga.ts';
import { Spares } from '../../src/engine/spares.ts';
import { isError } from '../../src/errors.ts';
import { viewOf } from '../../src/http/view.ts';
import { readMountinfo, topmostAt } from '../../src/mount/mountinfo.ts';
import { reflinkBackend } from '../../src/storage/reflink.ts';
import { removeTemplate } from '../../src/storage/templates.ts';
import { doTwice, failAfter, failBefore, Injected, undoTwice } from '../rig/faults.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { assertListIsTrue } from './consistent.ts';
import { makeWorld, type World } from './world.ts';

const never = new AbortController().signal;
const FS_TYPES = ['ext4', 'xfs', 'btrfs'] as const satisfies readonly FsType[];
let world: World;
let clean: HostState;

before(async () => {
  world = await makeWorld();
  for (const fsType of FS_TYPES) await world.addTemplate(fsType, { fsType, files: 20 });
  await world.lxd.launch('c1');
  await using _ = await world.engine();
  clean = hostState(world.dir);
});
after(async () => {
  await world?.[Symbol.asyncDispose]();
});

const attach = (template: string, target = '/mnt/data'): AttachCommand => ({
  action: 'attach',
  instance: { ref: 'c1' },
  target,
  source: { kind: 'template', template },
  readOnly: false,
});
const DESTROY: DestroyCommand = { action: 'destroy', instance: { ref: 'c1' }, target: '/mnt/data', lazy: false };

type Ready = AsyncDisposable & { readonly host: Host; readonly spares: Spares };

/** An engine where one snapshot of the template is ready. */
async function withSpare(template: string, wrapStep?: WrapStep): Promise<Ready> {
  await using scope = new AsyncDisposableStack();
  let spares: Spares | undefined;
  const host = await world.engine(deps => {
    const { backend, mounter } = deps;
    spares = new Spares({ backend, mounter, count: 1, onError: assert.ifError });
    return { ...deps, spares, ...(wrapStep && { wrapStep }) };
  });
  scope.use(host);
  assert.ok(spares);
  scope.use(spares);
  const { getTemplate } = reflinkBackend({ poolDir: world.poolDir });
  spares.take(await getTemplate(template), `${template}/nobody`);
  await spares.ready();
  assert.equal(spareFiles().length, 1);
  const kept = scope.move();
  return { host, spares, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function assertNothing(): Promise<void> {
  {
    await using host = await world.engine();
    assert.deepEqual(host.engine.list(), []);
  }
  await assertListIsTrue(world, []);
  await assertHostUnchanged(clean);
}

const spareFiles = () => readdirSync(join(world.poolDir, 'spares'));

async function until(isSo: () => boolean): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!isSo()) {
    assert.ok(Date.now() < deadline, String(isSo));
    await sleep(20);
  }
}

for (const fsType of FS_TYPES)
  test(`${fsType}: an attach takes what is ready, and it is as one that was made when asked for`, async () => {
    const seen = new Map<string, unknown>();
    for (const kind of ['made', 'ready'] as const) {
      await using ready = await withSpare(fsType);
      if (kind === 'made') await ready.spares[Symbol.asyncDispose]();
      const [spare] = spareFiles();
      const outcome = await ready.host.engine.execute(attach(fsType), never);
      const [attachment] = outcome.attachments;
      assert.ok(attachment);
      await assertListIsTrue(world, ready.host.engine.list().map(viewOf));
      const row = topmostAt(readMountinfo('/proc'), attachment.plan.mountPath);
      const inside = await world.lxd.sh(
        'c1',
        'cd /mnt/data; find . -exec stat -c "%n %u:%g %a" {} + | sort; id -u; touch new; ls -ln new',
      );
      seen.set(kind, {
        inside: inside.replace(/\w+ +\d+ \d+:\d+ new/, 'new'),
        options: row?.options.filter(o => o !== 'relatime'),
        superOptions: row?.superOptions,
        root: statSync(attachment.plan.mountPath).uid,
        isTaken: spare !== undefined && !spareFiles().includes(spare),
      });
      await ready.host.engine.execute(DESTROY, never);
    }
    const { isTaken: noneTaken, ...asMade } = seen.get('made') as { isTaken: boolean };
    const { isTaken, ...asReady } = seen.get('ready') as { isTaken: boolean };
    assert.deepEqual(asReady, asMade);
    assert.deepEqual([noneTaken, isTaken], [false, true]);
    await assertNothing();
  });

test('a root file system that was ready keeps its setuid programs, a volume does not', async () => {
  await using ready = await withSpare('ext4');
  const spawn = { action: 'spawn', instance: { ref: 's1' }, template: 'ext4' } as const;
  const { attachments } = await ready.host.engine.execute(spawn, never);
  const row = topmostAt(readMountinfo('/proc'), attachments[0]?.plan.mountPath ?? '');
  assert.ok(row?.options.includes('nodev') && row.options.includes('idmapped'));
  assert.ok(!row?.options.includes('nosuid'));
  await ready.spares.ready();
  await ready.host.engine.execute(attach('ext4'), never);
  const volume = readMountinfo('/proc').find(m => m.point.startsWith(join(world.runDir, 'volumes/')));
  assert.ok(volume?.options.includes('nosuid') && volume.options.includes('nodev'));
  await ready.host.engine.execute(DESTROY, never);
  await ready.host.engine.execute({ action: 'destroy', instance: { ref: 's1' }, lazy: false }, never);
});

describe('the saga with what is ready', () => {
  const injected = (error: unknown) => isError(error, 'SV_INTERNAL') && error.cause instanceof Injected;
  for (const step of ['snapshot', 'device', 'mount', 'handoff'] as const) {
    for (const [when, fail] of [
      ['before', failBefore(step)],
      ['after', failAfter(step)],
    ] as const)
      test(`leaves nothing when it fails ${when} "${step}", with each undo done twice`, async () => {
        {
          await using ready = await withSpare('xfs', s => undoTwice(fail(s)));
          await assert.rejects(ready.host.engine.execute(attach('xfs'), never), injected);
        }
        await assertNothing();
      });

    test(`comes to one effect when "${step}" is done twice`, async () => {
      {
        await using ready = await withSpare('xfs', doTwice(step));
        await ready.host.engine.execute(attach('xfs'), never);
        await assertListIsTrue(world, ready.host.engine.list().map(viewOf));
        await ready.host.engine.execute(DESTROY, never);
      }
      await assertNothing();
    });
  }
});

test('one that is ready is as large as it is asked to be', async () => {
  await using ready = await withSpare('xfs');
  const source = { kind: 'template', template: 'xfs', sizeBytes: 2 ** 30 } as const;
  const [spare = ''] = spareFiles();
  await ready.host.engine.execute({ ...attach('xfs'), source }, never);
  assert.ok(!spareFiles().includes(spare), 'it was taken');
  assert.ok(Number(await world.lxd.sh('c1', 'stat -f -c %b /mnt/data')) * 4096 > 2 ** 29);
  await ready.host.engine.execute(DESTROY, never);
});

test('what asks for reading only, or for a snapshot that was kept, gets one of its own', async () => {
  await using ready = await withSpare('ext4');
  const before = spareFiles();
  await ready.host.engine.execute({ ...attach('ext4'), readOnly: true }, never);
  assert.deepEqual(spareFiles(), before);
  await ready.host.engine.execute(DESTROY, never);
  await ready.host.engine.execute(attach('ext4'), never);
  await world.lxd.sh('c1', 'echo kept > /mnt/data/kept');
  await ready.host.engine.execute(
    { action: 'detach', instance: { ref: 'c1' }, target: '/mnt/data', lazy: false },
    never,
  );
  await ready.spares.ready();
  await ready.host.engine.execute(attach('ext4'), never);
  assert.equal(await world.lxd.sh('c1', 'cat /mnt/data/kept'), 'kept');
  await ready.host.engine.execute(DESTROY, never);
});

test('a template can be removed while spares of it are ready, and one of its name has nothing of the old one', async () => {
  {
    await using ready = await withSpare('ext4');
    await removeTemplate({ poolDir: world.poolDir }, 'ext4');
    await assert.rejects(ready.host.engine.execute(attach('ext4'), never), e => isError(e, 'SV_TEMPLATE_NOT_FOUND'));
    const tree = join(world.dir, 'other');
    mkdirSync(tree);
    writeFileSync(join(tree, 'other'), 'another one');
    await world.addTemplate('ext4', { from: tree });
    rmSync(tree, { recursive: true });
    await ready.host.engine.execute(attach('ext4'), never);
    assert.equal(await world.lxd.sh('c1', 'cat /mnt/data/other'), 'another one');
    await ready.host.engine.execute(DESTROY, never);
  }
  assert.deepEqual(spareFiles(), []);
});

test('an agent that is killed takes mounts and devices of its spares along, and the next one the files', async () => {
  const loops = () => hostState(world.dir).loops.filter(text => text.includes('/spares/'));
  {
    await using agent = await world.agent('spares: 2\n');
    const attached = await world.cli('attach', 'c1', 'xfs:/mnt/data', '--snapshot');
    assert.equal(attached.code, 0, attached.stderr);
    await until(() => loops().length === 2);
    await agent.kill('SIGKILL');
  }
  await until(() => loops().length === 0);
  assert.equal(spareFiles().length, 2);
  assert.match(await world.lxd.sh('c1', 'ls /mnt/data'), /./);
  {
    await using _agent = await world.agent('spares: 2\n');
    assert.deepEqual(spareFiles(), []);
    const destroyed = await world.cli('destroy', 'c1:/mnt/data');
    assert.equal(destroyed.code, 0, destroyed.stderr);
  }
  rmSync(join(world.dir, 'plugin.yaml'));
  await assertNothing();
});
