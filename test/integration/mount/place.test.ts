import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import type { MountSpec } from '../../../src/engine/ports.ts';
import { readMountinfo, topmostAt } from '../../../src/mount/mountinfo.ts';
import { type Bench, file, map, withBench } from './fixture.ts';

const code =
  (expected: string, text = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof Error && 'code' in error, String(error));
    assert.equal(error.code, expected, error.message);
    assert.match(error.message, text);
    return true;
  };

describe('mount', () => {
  test('has nodev always, nosuid unless it is a root file system, and ext4 stays alive on errors', async () => {
    await withBench(async ({ pool, mounter, spec, attach }) => {
      const options = async (changes: Partial<MountSpec>) => {
        const mount = spec('m', changes);
        await attach(file(pool.clone('ext4', 'c')), mount);
        const entry = topmostAt(readMountinfo('/proc'), mount.path);
        await mounter.unmount(mount.path, { lazy: false });
        await mounter.released(file(join(pool.dir, 'c')), { timeoutMs: 1000 });
        return entry;
      };
      const volume = await options({});
      const root = await options({ role: 'root' });
      const readOnly = await options({ readOnly: true });

      for (const option of ['idmapped', 'nodev', 'nosuid', 'rw']) assert.ok(volume?.options.includes(option), option);
      assert.ok(root?.options.includes('nodev') && !root.options.includes('nosuid'));
      assert.ok(readOnly?.options.includes('ro') && readOnly.superOptions.includes('ro'));
      for (const entry of [volume, root, readOnly]) assert.ok(entry?.superOptions.includes('errors=remount-ro'));
    });
  });

  test('done twice is one mount; inspect tells of it', async () => {
    await withBench(async ({ pool, mounter, spec }) => {
      const image = file(pool.clone('btrfs', 'c'));
      const mount = spec('m');
      assert.equal(await mounter.inspect(mount.path), undefined);
      await using device = await mounter.openDevice(image, { readOnly: false });
      const first = await mounter.mount(device, mount);
      const second = await mounter.mount(device, mount);
      await using again = await mounter.openDevice(image, { readOnly: false });
      const third = await mounter.mount(again, mount);

      assert.deepEqual([second, third], [first, first]);
      assert.deepEqual(await mounter.inspect(mount.path), first);
      assert.equal(await mounter.inspect(dirname(mount.path)), undefined);
      assert.equal(readMountinfo('/proc').filter(m => m.point === mount.path).length, 1);
      await mounter.unmount(mount.path, { lazy: false });
      assert.equal(await mounter.inspect(mount.path), undefined);
    });
  });

  test('goes on where a process was killed after it had made the directory', async () => {
    await withBench(async ({ pool, mounter, spec, attach }) => {
      const mount = spec('m');
      mkdirSync(mount.path, { mode: 0o700 });
      await attach(file(pool.clone('xfs', 'c')), mount);
      await mounter.unmount(mount.path, { lazy: false });
      assert.ok(!existsSync(mount.path));
    });
  });

  test('refuses a path that something else has, and leaves that alone', async () => {
    await withBench(async ({ pool, mounter, spec, attach }) => {
      const a = file(pool.clone('ext4', 'a'));
      const b = file(pool.clone('ext4', 'b'));
      const mount = spec('m');
      await attach(a, mount);
      await assert.rejects(attach(b, mount), code('SV_TARGET_TAKEN', /is mounted there/));
      await assert.rejects(
        attach(a, { ...mount, ...pick(spec('x', { hostBase: 900000 })) }),
        code('SV_TARGET_TAKEN', /another idmap/),
      );
      await mounter.unmount(mount.path, { lazy: false });
      await mounter.released(b, { timeoutMs: 1000 });

      mkdirSync(mount.path);
      writeFileSync(join(mount.path, 'theirs'), 'x');
      await assert.rejects(attach(b, mount), code('SV_TARGET_TAKEN', /not empty/));
      assert.equal(readFileSync(join(mount.path, 'theirs'), 'utf8'), 'x');
      rmSync(mount.path, { recursive: true });
      await mounter.released(b, { timeoutMs: 1000 });
    });
  });

  test('never mounts a device a second time at another path', async () => {
    await withBench(async ({ pool, mounter, spec, attach }) => {
      const image = file(pool.clone('ext4', 'c'));
      await attach(image, spec('m'));
      await assert.rejects(attach(image, spec('other')), code('SV_VOLUME_IN_USE', /mounted already/));
      await mounter.unmount(spec('m').path, { lazy: false });
    });
  });

  const refusals: readonly [what: string, expected: string, text: RegExp, change: (b: Bench) => MountSpec][] = [
    ['host root', 'SV_IDMAP_INVALID', /host id 0/, b => ({ ...b.spec('m'), idmap: map(0), within: everything() })],
    ['host id 65535', 'SV_IDMAP_INVALID', /65535/, b => ({ ...b.spec('m'), idmap: map(65535), within: everything() })],
    [
      'the ids of another instance',
      'SV_IDMAP_INVALID',
      /the instance owns/,
      b => ({ ...b.spec('m'), idmap: map(265536) }),
    ],
    ['an empty map', 'SV_IDMAP_INVALID', /empty/, b => ({ ...b.spec('m'), idmap: [] })],
    ['half a map', 'SV_IDMAP_INVALID', /gid/, b => ({ ...b.spec('m'), idmap: map().slice(0, 1) })],
    [
      'ids past the last one',
      'SV_IDMAP_INVALID',
      /4294967294/,
      b => ({ ...b.spec('m'), idmap: map(4294960000), within: everything() }),
    ],
    [
      'a base that the map does not have',
      'SV_IDMAP_INVALID',
      /id base 500000/,
      b => ({ ...b.spec('m'), idBase: 500000 }),
    ],
    [
      'a root directory of ids that the map does not have',
      'SV_IMAGE_REFUSED',
      /belongs to 0:0 on disk/,
      b => b.spec('m', { idBase: 100000 }),
    ],
    ['a relative path', 'SV_TARGET_INVALID', /absolute/, b => ({ ...b.spec('m'), path: 'm' })],
    ['a path with ..', 'SV_TARGET_INVALID', /absolute/, b => ({ ...b.spec('m'), path: `${b.dir}/x/../m` })],
    ['a missing parent', 'SV_TARGET_INVALID', /parent/, b => b.spec('no/m')],
  ];
  for (const [what, expected, text, change] of refusals)
    test(`refuses ${what}, and nothing is left`, async () => {
      await withBench(async bench => {
        await assert.rejects(bench.attach(file(bench.pool.clone('ext4', 'c')), change(bench)), code(expected, text));
        await bench.mounter.released(file(join(bench.pool.dir, 'c')), { timeoutMs: 2000 });
      });
    });

  test('lets a volume in whose root directory belongs to a user of the container', async () => {
    await withBench(async ({ pool, mounter, spec, attach }) => {
      const image = file(pool.clone('ext4', 'c'));
      await attach(image, spec('m'));
      execFileSync('chown', ['200999:200999', spec('m').path]);
      await mounter.unmount(spec('m').path, { lazy: false });
      await mounter.released(image, { timeoutMs: 1000 });
      await attach(image, spec('m', { hostBase: 400000 }));
      assert.equal(statSync(spec('m').path).uid, 400999);
      await mounter.unmount(spec('m').path, { lazy: false });
    });
  });

  test('is undone when it is cancelled', async () => {
    await withBench(async ({ pool, mounter, spec }) => {
      await using device = await mounter.openDevice(file(pool.clone('xfs', 'c')), { readOnly: false });
      const controller = new AbortController();
      const mounting = mounter.mount(device, spec('m'), controller.signal);
      controller.abort();
      await assert.rejects(mounting, { name: 'AbortError' });
    });
  });

  test('mounts a template with the UUID of a file system that the host has mounted', async () => {
    await withBench(async ({ pool, mounter, spec, attach, dir }) => {
      for (const fsType of ['ext4', 'xfs', 'btrfs'] as const) {
        const theirs = join(dir, 'theirs');
        mkdirSync(theirs);
        execFileSync('mount', ['-o', 'loop', pool.clone(fsType, 'host.img'), theirs]);
        writeFileSync(join(theirs, 'who'), 'host');
        try {
          await attach(file(pool.clone(fsType, `${fsType}.img`)), spec('m'));
          execFileSync('sh', ['-c', 'echo guest > sticky/who'], { cwd: spec('m').path, uid: 200000, gid: 200000 });
          assert.equal(readFileSync(join(theirs, 'who'), 'utf8'), 'host');
          assert.ok(!existsSync(join(spec('m').path, 'who')) && !existsSync(join(theirs, 'sticky/who')));
          await mounter.unmount(spec('m').path, { lazy: false });
        } finally {
          execFileSync('umount', [theirs]);
          rmSync(theirs, { recursive: true });
        }
      }
    });
  });
});

function everything(): MountSpec['within'] {
  const all = [{ start: 0, count: 4294967295 }];
  return { uid: all, gid: all };
}

function pick({ idmap, within }: MountSpec): Pick<MountSpec, 'idmap' | 'within'> {
  return { idmap, within };
}
