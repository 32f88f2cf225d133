/** A file system whose UUID another mounted one has already: a snapshot of the host's own disk, a volume copied byte by byte. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Host } from '../../src/cli/assemble.ts';
import { FS_TYPES } from '../../src/engine/model.ts';
import { waitUnused } from '../../src/storage/private-mount.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { makeImage, withMounted } from '../rig/images.ts';
import { makeWorld, type World } from './world.ts';

const never = new AbortController().signal;
const CONTAINERS = ['u1', 'u2'] as const;
const CHECK = {
  ext4: ['e2fsck', '-f', '-n'],
  xfs: ['xfs_repair', '-n'],
  btrfs: ['btrfs', 'check', '--readonly'],
} as const;
let world: World;
let host: Host;
let clean: HostState;

before(async () => {
  world = await makeWorld();
  for (const name of CONTAINERS) await world.lxd.launch(name);
  host = await world.engine();
  clean = hostState(world.dir);
});
after(async () => {
  await host?.[Symbol.asyncDispose]();
  await world?.[Symbol.asyncDispose]();
});

for (const fsType of FS_TYPES)
  test(`${fsType}: the host has it mounted and two containers a copy each; everyone sees what he has written, and that alone`, async () => {
    const original = join(world.dir, `${fsType}.raw`);
    const copies = CONTAINERS.map(name => ({ name, path: join(world.dir, `${fsType}-${name}.raw`) }));
    makeImage(fsType, original);
    await waitUnused(original);
    for (const { path } of copies) execFileSync('cp', ['--sparse=always', original, path]);
    const point = join(world.dir, 'host');
    mkdirSync(point);
    execFileSync('mount', ['-o', 'loop', '-t', fsType, original, point]);
    try {
      for (const { name: ref, path } of copies)
        await host.engine.execute(
          {
            action: 'attach',
            instance: { ref },
            target: '/mnt/vol',
            source: { kind: 'file', path },
            readOnly: false,
          },
          never,
        );
      const devices = host.engine.list().map(a => (a.status.state === 'attached' ? a.status.device : a.status.state));
      assert.equal(new Set(devices).size, 2, devices.join(' '));

      writeFileSync(join(point, 'by-host'), 'host\n');
      for (const { name } of copies) await world.lxd.sh(name, `echo ${name} > /mnt/vol/by-${name} && sync`);
      assert.deepEqual(writers(readdirSync(point)), ['by-host']);
      for (const { name } of copies)
        assert.equal(
          await world.lxd.sh(name, 'cd /mnt/vol && echo by-* && cat by-* user && stat -c %u:%g user'),
          `by-${name}\n${name}\nuser\n1000:1000`,
        );

      for (const ref of CONTAINERS)
        await host.engine.execute({ action: 'detach', instance: { ref }, target: '/mnt/vol', lazy: false }, never);
      assert.equal(readFileSync(join(point, 'by-host'), 'utf8'), 'host\n');
      writeFileSync(join(point, 'by-host'), 'still there\n');
    } finally {
      execFileSync('umount', [point]);
      rmdirSync(point);
    }
    await waitUnused(original);

    for (const { name, path } of [{ name: 'host', path: original }, ...copies]) {
      execFileSync(CHECK[fsType][0], [...CHECK[fsType].slice(1), path], { stdio: 'ignore' });
      assert.deepEqual(
        withMounted(path, fsType, at => writers(readdirSync(at))),
        [`by-${name}`],
      );
      await waitUnused(path);
      rmSync(path);
    }
    assert.deepEqual(host.engine.list(), []);
    await assertHostUnchanged(clean);
  });

const writers = (names: readonly string[]) => names.filter(name => name.startsWith('by-'));
