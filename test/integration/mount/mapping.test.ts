import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chownSync, lstatSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { FS_TYPES } from '../../../src/engine/model.ts';
import { image, OWNERS, withMounted } from '../../rig/images.ts';
import { COUNT, file, HOST_BASE, withBench } from './fixture.ts';

/** All that lstat tells of every entry; owners from `base` on, relative to it. */
function listing(point: string, base: number): readonly string[] {
  const shown = (id: number) => (id >= base && id < base + COUNT ? `${id - base}` : 'nobody');
  const find = ['.', '-mindepth', '1', '-name', 'lost+found', '-prune', '-o', '-printf', '%P\n'];
  return execFileSync('find', find, { cwd: point, encoding: 'utf8' })
    .split('\n')
    .filter(name => name !== '')
    .toSorted()
    .map(name => {
      const s = lstatSync(join(point, name));
      return `${name} ${s.mode.toString(8)} ${s.size} ${shown(s.uid)}:${shown(s.gid)}`;
    });
}

/** Entries with ACLs of their own. */
const ACLS = ['root', 'setgid'] as const;

function acl(path: string): string {
  return execFileSync('getfacl', ['-cnp', path], { encoding: 'utf8' });
}

function asUser(id: number, script: string, cwd: string): string {
  return execFileSync('sh', ['-c', script], {
    uid: id,
    gid: id,
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

for (const fsType of FS_TYPES) {
  describe(fsType, () => {
    for (const idBase of [0, 100000]) {
      test(`shows owners, modes, ACLs and attributes of ids from ${idBase} on through the map`, async () => {
        await withBench(async ({ pool, mounter, spec, attach }) => {
          const source = pool.clone({ path: put(pool.dir, fsType, idBase) }, 'c');
          const onDisk = withMounted(source, fsType, point => ({
            listing: listing(point, idBase),
            acls: ACLS.map(name => acl(join(point, name))),
          }));
          const mount = spec('m', { idBase });
          await attach(file(source), mount);
          const shift = (text: string) =>
            text.replaceAll(/(?<=:)\d{2,}(?=:)/g, id => `${Number(id) - idBase + HOST_BASE}`);

          assert.deepEqual(listing(mount.path, HOST_BASE), onDisk.listing);
          assert.deepEqual(
            ACLS.map(name => acl(join(mount.path, name))),
            onDisk.acls.map(shift),
          );
          const value = execFileSync('getfattr', ['--only-values', '-n', 'user.shiftvol', join(mount.path, 'user')], {
            encoding: 'utf8',
          });
          assert.equal(value, 'kept');
          assert.equal(lstatSync(join(mount.path, 'outside')).uid, 65534);

          await mounter.unmount(mount.path, { lazy: false });
        });
      });
    }

    test('stores what a mapped user makes with base ids, and lets nobody else in', async () => {
      await withBench(async ({ pool, mounter, spec, attach }) => {
        const idBase = 100000;
        const source = pool.clone({ path: put(pool.dir, fsType, idBase) }, 'c');
        const mount = spec('m', { idBase });
        await attach(file(source), mount);

        asUser(HOST_BASE + 1000, 'echo hello > sticky/made; mkdir setgid/dir', mount.path);
        chownSync(join(mount.path, 'user'), HOST_BASE + 5, HOST_BASE + 6);
        assert.throws(() => asUser(HOST_BASE + 1000, 'echo x > outside', mount.path), /Permission denied/);
        assert.throws(() => asUser(300000, 'echo x > sticky/other', mount.path), /Value too large/);
        assert.throws(() => asUser(1000, 'echo x > sticky/other', mount.path), /Value too large/);
        assert.throws(() => asUser(HOST_BASE, 'cat null', mount.path), /Permission denied/);
        assert.equal(asUser(12345, './setuid -u', mount.path), '12345\n');

        await mounter.unmount(mount.path, { lazy: false });
        const owners = withMounted(source, fsType, point =>
          ['sticky/made', 'setgid/dir', 'user'].map(name => {
            const { uid, gid } = lstatSync(join(point, name));
            return [name, uid, gid];
          }),
        );
        assert.deepEqual(owners, [
          ['sticky/made', idBase + 1000, idBase + 1000],
          ['setgid/dir', idBase + 1000, idBase + OWNERS.user],
          ['user', idBase + 5, idBase + 6],
        ]);
      });
    });

    test('mounts two clones with one UUID at once, each with its own contents and map', async () => {
      await withBench(async ({ pool, mounter, spec, attach }) => {
        const names = ['a', 'b', 'c'];
        const mounts = names.map((name, i) => spec(name, { hostBase: HOST_BASE + i * 65536 }));
        await Promise.all(mounts.map((mount, i) => attach(file(pool.clone(fsType, `${names[i]}.img`)), mount)));

        for (const [i, mount] of mounts.entries())
          asUser(HOST_BASE + i * 65536, `echo ${names[i]} > sticky/who`, mount.path);

        const seen = mounts.map(mount => {
          const who = join(mount.path, 'sticky/who');
          return execFileSync('cat', [who], { encoding: 'utf8' }).trim() + lstatSync(who).uid;
        });
        assert.deepEqual(
          seen,
          names.map((name, i) => name + (HOST_BASE + i * 65536)),
        );
        for (const mount of mounts) await mounter.unmount(mount.path, { lazy: false });
      });
    });
  });
}

/** The image with this base, copied into the pool. */
function put(poolDir: string, fsType: (typeof FS_TYPES)[number], idBase: number): string {
  const path = join(poolDir, `${fsType}-${idBase}.img`);
  execFileSync('cp', ['--sparse=always', image(fsType, idBase), path]);
  return path;
}
