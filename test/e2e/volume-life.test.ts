/** A volume's life in a running container: it grows, is saved and brought back, and nothing stays frozen, whoever dies. */
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, existsSync, constants as fs, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../../src/cli/assemble.ts';
import { FS_TYPES, type FsType } from '../../src/engine/model.ts';
import type { Saved } from '../../src/engine/snapshots.ts';
import { isError } from '../../src/errors.ts';
import type { AttachmentView } from '../../src/http/view.ts';
import { hasCapability } from '../../src/kernel/capability.ts';
import { open } from '../../src/kernel/fd.ts';
import { thawFileSystem } from '../../src/kernel/freeze.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { withMounted } from '../rig/images.ts';
import { assertListIsTrue } from './consistent.ts';
import { makeWorld, type World } from './world.ts';

const GIB = 2 ** 30;
const WRITER = new URL('../rig/writer.ts', import.meta.url).pathname;
const DYING = new URL('./dying-snapshot.ts', import.meta.url).pathname;
const GROWING = FS_TYPES.filter(type => type !== 'ext4' || hasCapability('/proc', 'SYS_RESOURCE'));

let world: World;
let clean: HostState;
const never = new AbortController().signal;

before(async () => {
  world = await makeWorld();
  for (const fsType of FS_TYPES) await world.addTemplate(fsType, { files: 50, fsType });
  await world.addTemplate('based', { files: 20, fsType: 'xfs', idBase: 100_000 });
  await world.lxd.launch('c1');
  await (await world.engine())[Symbol.asyncDispose]();
  clean = hostState(world.dir);
});
after(async () => await world?.[Symbol.asyncDispose]());

async function cli<T>(...args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await world.cli(...args, '--json');
  assert.equal(code, 0, `${args.join(' ')}: ${stderr}`);
  return JSON.parse(stdout);
}

async function refused(
  ...args: readonly string[]
): Promise<{ code: number; error: { code: string; message: string } }> {
  const { code, stdout } = await world.cli(...args, '--json');
  return { code, ...JSON.parse(stdout) };
}

/** What df says inside, in bytes. */
async function sizeInside(target: string, container = 'c1'): Promise<number> {
  const text = await world.lxd.sh(container, `df -k ${target} | tail -1`);
  return Number(text.trim().split(/\s+/).at(1)) * 1024;
}

/** All that was attached is gone, and the host as it was. */
async function leave(): Promise<void> {
  await cli('destroy', 'c1');
  assert.deepEqual(await cli('snapshot', 'list'), []);
  assert.deepEqual(await cli('list'), []);
  await assertListIsTrue(world, []);
  await assertHostUnchanged(clean);
  const saved = join(world.poolDir, 'saved');
  assert.deepEqual(existsSync(saved) ? readdirSync(saved) : [], []);
}

function isFrozen(path: string): boolean {
  using mount = open(path, 'r');
  return thawFileSystem(mount.fd, path);
}

describe('sizes', () => {
  for (const fsType of FS_TYPES)
    test(`a snapshot of an ${fsType} template is as large as was asked before the container sees it`, async () => {
      await cli('attach', 'c1', `${fsType}:/mnt/v`, '--snapshot', '--size', '3G');

      assert.ok((await sizeInside('/mnt/v')) > 2.7 * GIB);
      await world.lxd.sh('c1', 'echo written > /mnt/v/new');
      await leave();
    });

  test('a root file system is as large as was asked', async () => {
    const { attachments } = await cli<{ attachments: AttachmentView[] }>('spawn', 's1', 'xfs', '--size', '3G');
    const path = attachments[0]?.hostPath ?? '';

    const kib = execFileSync('df', ['-k', '--output=size', path], { encoding: 'utf8' }).split('\n')[1];
    assert.ok(Number(kib) * 1024 > 2.7 * GIB);
    await cli('destroy', 's1');
    await assertHostUnchanged(clean);
  });

  test('what is smaller than the template, read-only, or no snapshot, is refused, and nothing is left', async () => {
    const small = await refused('attach', 'c1', 'xfs:/mnt/v', '--snapshot', '--size', '1M');
    assert.deepEqual([small.code, small.error.code], [2, 'SV_USAGE']);
    const readOnly = await refused('attach', 'c1', 'xfs:/mnt/v:ro', '--snapshot', '--size', '3G');
    assert.deepEqual([readOnly.code, readOnly.error.code], [2, 'SV_USAGE']);
    const file = await refused('attach', 'c1', '/srv/none.raw:/mnt/v', '--size', '3G');
    assert.deepEqual([file.code, file.error.code], [2, 'SV_USAGE']);
    await assertHostUnchanged(clean);
  });

  for (const fsType of GROWING)
    test(`an ${fsType} that is attached grows under a process that writes to it, and the container sees it at once`, async () => {
      const { attachments } = await cli<{ attachments: AttachmentView[] }>(
        'attach',
        'c1',
        `${fsType}:/mnt/v`,
        '--snapshot',
      );
      const id = attachments[0]?.id ?? '';
      await world.lxd.sh(
        'c1',
        '(while :; do date > /mnt/v/clock; done) </dev/null >/dev/null 2>&1 & echo $! > /tmp/writer',
      );
      const was = await sizeInside('/mnt/v');

      const first = await cli<{ changed: boolean }>(
        'extend',
        'c1:/mnt/v',
        '--size',
        '3G',
        '--request-id',
        `x-${fsType}`,
      );
      const grown = await sizeInside('/mnt/v');
      const again = await cli<{ changed: boolean }>(
        'extend',
        'c1:/mnt/v',
        '--size',
        '3G',
        '--request-id',
        `x-${fsType}`,
      );
      const same = await cli<{ changed: boolean }>('extend', id, '--size', '3G');
      const shrink = await refused('extend', id, '--size', '2G');
      const nothing = await refused('extend', 'c1:/mnt/other', '--size', '4G');

      assert.ok(grown > 2.7 * GIB && was < grown, `${was} -> ${grown}`);
      assert.deepEqual([first.changed, again.changed, same.changed], [true, false, false]);
      assert.deepEqual([shrink.code, shrink.error.code], [2, 'SV_USAGE']);
      assert.match(shrink.error.message, /never shrinks/);
      assert.deepEqual([nothing.code, nothing.error.code], [3, 'SV_ATTACHMENT_NOT_FOUND']);
      await world.lxd.sh('c1', 'kill $(cat /tmp/writer)');
      await leave();
    });

  for (const boundary of ['', 'saved:growUnmounted:before', 'saved:growUnmounted:after'])
    test(`an ext4 grows while its instance is stopped, where a mounted one may not${boundary && `; also killed at ${boundary}`}`, {
      skip: GROWING.includes('ext4') && 'it grows while it is mounted here',
    }, async () => {
      await attachWritten('ext4');
      const running = await refused('extend', 'c1:/mnt/v', '--size', '2G');
      await world.lxd.stop('c1');

      if (boundary === '') await cli('extend', 'c1:/mnt/v', '--size', '3G');
      else {
        assert.equal(dieAt(boundary, 'extend', `${3 * GIB}`), 'SIGKILL');
        const { tasks } = await cli<{ tasks: { task: string; did: string }[] }>('recover');
        assert.deepEqual(
          tasks.map(t => `${t.task} ${t.did}`),
          ['extend finished'],
        );
      }

      assert.deepEqual([running.code, running.error.code], [5, 'SV_HOST']);
      await assertListIsTrue(world, await cli('list'));
      await world.lxd.start('c1');
      assert.ok((await sizeInside('/mnt/v')) > 2.7 * GIB);
      assert.equal(await world.lxd.sh('c1', 'cat /mnt/v/marker'), 'one');
      await leave();
    });

  for (const boundary of [
    'mounter:enlarge:before',
    'mounter:enlarge:after',
    'mounter:grow:before',
    'mounter:grow:after',
  ])
    test(`an extend that is killed at ${boundary} is finished by recover`, async () => {
      await cli('attach', 'c1', 'xfs:/mnt/v', '--snapshot');
      assert.equal(dieAt(boundary, 'extend', `${3 * GIB}`), 'SIGKILL');

      const dry = await cli<{ tasks: { task: string; did: string }[] }>('recover', '--dry-run');
      const did = await cli<{ tasks: { task: string; did: string }[] }>('recover');

      assert.deepEqual(
        dry.tasks.map(t => `${t.task} ${t.did}`),
        ['extend finished'],
      );
      assert.deepEqual(
        did.tasks.map(t => `${t.task} ${t.did}`),
        ['extend finished'],
      );
      assert.ok((await sizeInside('/mnt/v')) > 2.7 * GIB);
      await leave();
    });
});

function dieAt(boundary: string, action: string, what: string): NodeJS.Signals | string | null {
  const { signal, stdout, stderr } = spawnSync(process.execPath, [DYING, boundary, action, 'c1', '/mnt/v', what], {
    env: world.env,
    encoding: 'utf8',
    timeout: 60_000,
  });
  return signal ?? `${stdout}${stderr}`;
}

/** A process that writes to the volume on the host all the time; after it has ended, how long it was kept at most. */
async function startWriter(path: string): Promise<{ stop(): Promise<number> }> {
  const writer = spawn(process.execPath, [WRITER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  let longest = 0;
  const lines = createInterface({ input: writer.stdout });
  lines.on('line', line => {
    longest = Math.max(longest, Number(line.split(' ')[1] ?? 0));
  });
  await once(lines, 'line');
  return {
    async stop() {
      await sleep(100);
      writer.kill('SIGTERM');
      await once(writer, 'close');
      return longest;
    },
  };
}

async function attachWritten(fsType: FsType): Promise<AttachmentView> {
  const { attachments } = await cli<{ attachments: AttachmentView[] }>(
    'attach',
    'c1',
    `${fsType}:/mnt/v`,
    '--snapshot',
  );
  await world.lxd.sh('c1', 'echo one > /mnt/v/marker; touch /mnt/v/clock; sync');
  const [attachment] = attachments;
  assert.ok(attachment);
  return attachment;
}

describe('snapshots', () => {
  for (const fsType of FS_TYPES)
    test(`${fsType}: saved while it is written to, it holds what was synced, and mounts`, async t => {
      const { hostPath, id } = await attachWritten(fsType);
      const writer = await startWriter(join(hostPath, 'clock'));

      const saved = await cli<Saved>('snapshot', 'create', 'c1:/mnt/v', 'first');
      const longestMs = await writer.stop();

      t.diagnostic(`frozen for ${saved.frozenMs.toFixed(1)} ms; the writer waited ${longestMs.toFixed(1)} ms`);
      assert.ok(saved.frozenMs > 0 && saved.frozenMs < 5000);
      assert.ok(longestMs < 6000, `the writer waited ${longestMs} ms`);
      assert.equal(isFrozen(hostPath), false);
      const copy = join(world.dir, 'state/pool/look.img');
      copyFileSync(saved.path, copy, fs.COPYFILE_FICLONE_FORCE);
      const found = withMounted(copy, fsType, point => readFileSync(join(point, 'marker'), 'utf8'));
      rmSync(copy);
      assert.equal(found, 'one\n');
      const [row] = await cli<{ exclusiveBytes: number; sharedBytes: number }[]>('snapshot', 'list', id);
      assert.ok(row && row.sharedBytes > row.exclusiveBytes, JSON.stringify(row));
      assert.deepEqual((await refused('snapshot', 'create', id, 'first')).error.code, 'SV_SNAPSHOT_EXISTS');
      await cli('snapshot', 'remove', id, 'first');
      assert.deepEqual((await refused('snapshot', 'remove', id, 'first')).error.code, 'SV_SNAPSHOT_NOT_FOUND');
      await leave();
    });

  test('it is brought back into what is detached, and into what a stopped instance has; never under a running one', async () => {
    const { id } = await attachWritten('ext4');
    await cli('snapshot', 'create', id, 'one');
    await world.lxd.sh('c1', 'echo two > /mnt/v/marker; sync');
    await cli('snapshot', 'create', id, 'two');

    const running = await refused('snapshot', 'restore', id, 'one');
    assert.deepEqual([running.code, running.error.code], [4, 'SV_BUSY']);
    assert.equal(await world.lxd.sh('c1', 'cat /mnt/v/marker'), 'two');

    await world.lxd.stop('c1');
    await cli('snapshot', 'restore', id, 'one');
    await world.lxd.start('c1');
    assert.equal(await world.lxd.sh('c1', 'cat /mnt/v/marker'), 'one');

    await cli('detach', 'c1:/mnt/v');
    await cli('snapshot', 'restore', 'c1:/mnt/v', 'two');
    await cli('attach', 'c1', 'ext4:/mnt/v', '--snapshot');
    assert.equal(await world.lxd.sh('c1', 'cat /mnt/v/marker'), 'two');

    for (const name of ['one', 'two']) await cli('snapshot', 'remove', id, name);
    await leave();
  });

  test('a snapshot outlives its attachment, and a template is made of it or of what is attached, with its base', async () => {
    await cli('attach', 'c1', 'based:/mnt/v', '--snapshot');
    await world.lxd.sh('c1', 'echo one > /mnt/v/marker; sync');
    const { attachment } = await cli<Saved>('snapshot', 'create', 'c1:/mnt/v', 'kept');
    await world.lxd.sh('c1', 'echo two > /mnt/v/marker; sync');

    const live = await cli<{ template: { idBase: number } }>(
      'template',
      'import',
      'live',
      '--from',
      'attachment:c1:/mnt/v',
    );
    await cli('destroy', 'c1');
    const kept = await cli<{ template: { idBase: number } }>(
      'template',
      'import',
      'kept',
      '--from',
      `attachment:${attachment}@kept`,
    );

    assert.deepEqual([live.template.idBase, kept.template.idBase], [100_000, 100_000]);
    for (const [name, marker] of [
      ['live', 'two'],
      ['kept', 'one'],
    ] as const) {
      await cli('attach', 'c1', `${name}:/mnt/v`, '--snapshot');
      assert.equal(await world.lxd.sh('c1', 'cat /mnt/v/marker; stat -c %u /mnt/v/marker'), `${marker}\n0`);
      await cli('destroy', 'c1');
      await cli('template', 'remove', name);
    }
    const held = (await cli<{ name: string }[]>('snapshot', 'list')).map(s => s.name);
    assert.deepEqual(held, ['kept'], 'the one that the import took for itself is gone');
    await cli('snapshot', 'remove', attachment, 'kept');
  });

  const boundaries: readonly (readonly [boundary: string, did: string])[] = [
    ['freezer:freeze:before', 'undone'],
    ['freezer:freeze:after', 'undone'],
    ['saved:clone:before', 'undone'],
    ['saved:clone:after', 'undone'],
    ['saved:clone:after:guard', 'undone'],
    ['saved:keep:before', 'undone'],
    ['saved:keep:after', 'finished'],
  ];
  for (const [boundary, did] of boundaries)
    test(`killed at ${boundary} a snapshot is ${did}, and the writer goes on`, async t => {
      const { hostPath, id } = await attachWritten('ext4');
      const writer = await startWriter(join(hostPath, 'clock'));

      assert.equal(dieAt(boundary, 'create', 'cut'), 'SIGKILL');
      const died = performance.now();
      const both = boundary.endsWith(':guard');
      // A writer that waits cannot be looked at but by thawing, which is recover's part where both are dead.
      if (!both) await sleep(300);
      const { tasks } = await cli<{ tasks: { task: string; did: string }[] }>('recover');
      const longestMs = await writer.stop();

      t.diagnostic(
        `the writer waited ${longestMs.toFixed(0)} ms, recover had ended ${(performance.now() - died).toFixed(0)} ms after the death`,
      );
      assert.deepEqual(
        tasks.map(one => `${one.task} ${one.did}`),
        [`snapshot ${did}`],
      );
      assert.equal(isFrozen(hostPath), false);
      if (!both) assert.ok(longestMs < 5500, `the writer waited ${longestMs} ms`);
      assert.equal((await cli<unknown[]>('snapshot', 'list')).length, did === 'finished' ? 1 : 0);
      await cli('snapshot', 'create', id, 'next');
      for (const { name } of await cli<{ name: string }[]>('snapshot', 'list'))
        await cli('snapshot', 'remove', id, name);
      await leave();
    });

  for (const boundary of [
    'mounter:unmount:before',
    'mounter:released:after',
    'saved:restore:before',
    'saved:restore:after',
    'mounter:mount:before',
    'mounter:mount:after',
  ])
    test(`a restore that is killed at ${boundary} is finished by recover`, async () => {
      const { id } = await attachWritten('xfs');
      await cli('snapshot', 'create', id, 'one');
      await world.lxd.sh('c1', 'echo two > /mnt/v/marker; sync');
      await world.lxd.stop('c1');

      assert.equal(dieAt(boundary, 'restore', 'one'), 'SIGKILL');
      const { tasks, attachments } = await cli<{ tasks: { did: string }[]; attachments: { did: string }[] }>('recover');

      assert.deepEqual(
        tasks.map(t => t.did),
        ['finished'],
      );
      assert.ok(
        attachments.every(a => a.did === 'mounted again'),
        JSON.stringify(attachments),
      );
      await assertListIsTrue(world, await cli('list'));
      await world.lxd.start('c1');
      assert.equal(await world.lxd.sh('c1', 'cat /mnt/v/marker'), 'one');
      await cli('snapshot', 'remove', id, 'one');
      await leave();
    });
});

describe('for others', () => {
  async function withEngine(use: (host: Host) => Promise<void>): Promise<void> {
    await using host = await world.engine();
    await use(host);
  }
  const place = { instance: { ref: 'c1' }, target: '/mnt/v' };

  test('an image is streamed as it was at one moment, its holes too, and nothing is left of it', async () => {
    const { image } = await attachWritten('ext4');
    await withEngine(async ({ engine }) => {
      const hash = createHash('sha256');
      let bytes = 0;
      {
        await using out = await engine.snapshots.exportImage(place, { signal: never });
        const [name = ''] = readdirSync(join(world.poolDir, 'saved')).flatMap(id =>
          readdirSync(join(world.poolDir, 'saved', id)).map(file => join(world.poolDir, 'saved', id, file)),
        );
        const whole = createHash('sha256').update(readFileSync(name)).digest('hex');
        await world.lxd.sh('c1', 'echo two > /mnt/v/marker; sync');
        for await (const chunk of out.stream) {
          bytes += chunk.length;
          hash.update(chunk);
        }
        assert.equal(bytes, out.sizeBytes);
        assert.equal(hash.digest('hex'), whole);
        // A recovery that comes meanwhile leaves it alone.
        assert.deepEqual((await engine.recover({ dryRun: false, signal: never })).tasks, []);
      }
      assert.equal(bytes, readFileSync(image).length);
    });
    await leave();
  });

  test('what is attached stands still for somebody else, and goes on when told', async () => {
    const { hostPath, id } = await attachWritten('xfs');
    const writer = await startWriter(join(hostPath, 'clock'));
    await withEngine(async ({ engine }) => {
      await engine.standstills.freeze({ ref: 'c1' }, { deadlineMs: 10_000, signal: never });
      await engine.standstills.freeze({ ref: 'c1' }, { signal: never });
      await assert.rejects(
        engine.execute({ action: 'detach', instance: { ref: 'c1' }, target: '/mnt/v', lazy: false }, never),
        e => isError(e, 'SV_BUSY'),
      );
      // The moment is the caller's: no second freeze, no thaw.
      const saved = await engine.snapshots.create(place, 'quiet', { signal: never });
      assert.equal(saved.frozenMs, 0);
      assert.deepEqual((await engine.recover({ dryRun: false, signal: never })).tasks, []);
      const { frozenMs } = await engine.standstills.thaw({ ref: 'c1' }, never);
      assert.ok(frozenMs > 0);
      await assert.rejects(engine.standstills.thaw({ ref: 'c1' }, never), e => isError(e, 'SV_TIMEOUT'));
    });
    await writer.stop();
    assert.equal(isFrozen(hostPath), false);
    await cli('snapshot', 'remove', id, 'quiet');
    await leave();
  });

  test('whoever does not come back finds it thawed at the deadline, and is told', async () => {
    const { hostPath } = await attachWritten('xfs');
    const writer = await startWriter(join(hostPath, 'clock'));
    await withEngine(async ({ engine }) => {
      await engine.standstills.freeze({ ref: 'c1' }, { deadlineMs: 400, signal: never });
      await sleep(800);
      assert.equal(isFrozen(hostPath), false);
      await assert.rejects(engine.standstills.thaw({ ref: 'c1' }, never), e => isError(e, 'SV_TIMEOUT'));
    });
    const longestMs = await writer.stop();
    assert.ok(longestMs > 350 && longestMs < 1500, `${longestMs}`);
    await leave();
  });
});
