import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { FS_TYPES, type FsType } from '../../../src/engine/model.ts';
import { isError } from '../../../src/errors.ts';
import { importTemplate } from '../../../src/storage/import/import.ts';
import { layout } from '../../../src/storage/layout.ts';
import { mountPrivately } from '../../../src/storage/private-mount.ts';
import { removeTemplate, verifyTemplate } from '../../../src/storage/templates.ts';
import { makePool, run } from '../../rig/pool.ts';
import { refuses } from './importing.ts';

const pool = makePool('xfs');
const at = layout(pool.poolDir);
const tree = join(pool.base, 'tree');
after(() => pool[Symbol.dispose]());
before(() => makeSource(tree));

describe('template import of a directory', () => {
  for (const fsType of FS_TYPES)
    for (const idBase of [0, 100_000])
      it(`keeps owners, modes, ACLs, attributes and capabilities on ${fsType} from id ${idBase} on`, async () => {
        const name = `tree-${fsType}-${idBase}`;

        const { template, dropped, immutable } = await importTemplate(pool, { name, from: tree, fsType, idBase });

        assert.equal(template.idBase, idBase);
        assert.deepEqual(dropped, { devices: 2, sockets: 0 });
        assert.ok(immutable);
        assert.ok(template.extents < 60, `${template.extents} extents`);
        await inside(template.path, fsType, root => {
          const owner = (path: string) => {
            const { uid, gid } = lstatSync(`${root}/${path}`);
            return [uid - idBase, gid - idBase];
          };
          assert.deepEqual(owner('.'), [0, 0]);
          assert.deepEqual(owner('etc/passwd'), [0, 0]);
          assert.deepEqual(owner('home/user/file'), [1000, 1001]);
          assert.deepEqual(owner('home/user/link'), [0, 0]);
          assert.equal(statSync(join(root, 'usr/bin/su')).mode & 0o7777, 0o4755);
          assert.equal(statSync(join(root, 'tmp')).mode & 0o7777, 0o1777);
          assert.equal(statSync(join(root, 'etc/passwd')).nlink, 2);
          assert.equal(existsSync(join(root, 'dev/sda')), false);
          assert.match(run('getfattr', '-n', 'user.note', '--only-values', join(root, 'etc/passwd')), /hello/);
          assert.match(run('getfacl', '-n', '-p', join(root, 'etc/passwd')), new RegExp(`user:${idBase + 1000}:rw-`));
          const caps = run('getcap', '-n', join(root, 'usr/bin/ping'));
          assert.match(caps, /cap_net_raw[=+]ep/);
          if (idBase > 0) assert.match(caps, new RegExp(`rootid=${idBase}`));
        });
        await removeTemplate(pool, name);
      });

  it('refuses ids that an id base leaves no room for, and leaves nothing', async () => {
    const odd = join(pool.base, 'odd');
    mkdirSync(odd);
    writeFileSync(join(odd, 'file'), '');
    chownSync(join(odd, 'file'), 70_000, 0);

    await refuses(pool, { name: 'odd', from: odd, idBase: 100_000 }, 'SV_TOOL');
  });

  it('says so when the file system is too small, and leaves nothing', async () => {
    const big = join(pool.base, 'big');
    mkdirSync(big);
    writeFileSync(join(big, 'file'), Buffer.alloc(40 * 2 ** 20, 'x'));

    await refuses(pool, { name: 'big', from: big, sizeBytes: 2 ** 25 }, 'SV_TOOL');
  });
});

describe('template import of a tar', () => {
  it('gives the same tree, compressed or not, and checks its sha256', async () => {
    for (const [suffix, flag] of [
      ['tar', '--no-auto-compress'],
      ['tar.gz', '--gzip'],
      ['tar.xz', '--xz'],
      ['tar.zst', '--zstd'],
    ] as const) {
      const file = join(pool.base, `tree.${suffix}`);
      run(
        'tar',
        '--create',
        `--file=${file}`,
        flag,
        '--xattrs',
        '--xattrs-include=*',
        '--acls',
        `--directory=${tree}`,
        '.',
      );
      const sha256 = createHash('sha256').update(readFileSync(file)).digest('hex');

      const { template } = await importTemplate(pool, { name: 'tarred', from: file, idBase: 100_000, sha256 });

      await inside(template.path, 'ext4', root => {
        assert.equal(statSync(join(root, 'home/user/file')).uid, 101_000);
        assert.equal(readFileSync(join(root, 'etc/passwd'), 'utf8'), 'root');
      });
      await verifyTemplate(pool, 'tarred', { onProgress() {} });
      await removeTemplate(pool, 'tarred');
      await refuses(pool, { name: 'tarred', from: file, sha256: '0'.repeat(64) }, 'SV_CHECKSUM');
    }
  });

  it('does not let members out of the new file system', async () => {
    const file = join(pool.base, 'evil.tar');
    const made = `
import tarfile, io
t = tarfile.open(${JSON.stringify(file)}, 'w')
def add(name, **k):
    i = tarfile.TarInfo(name)
    for a, v in k.items(): setattr(i, a, v)
    data = b'evil'
    if i.type == tarfile.REGTYPE: i.size = len(data)
    t.addfile(i, io.BytesIO(data) if i.size else None)
add('out', type=tarfile.SYMTYPE, linkname=${JSON.stringify(pool.base)})
add('out/escaped')
t.close()`;
    run('python3', '-c', made);

    await importTemplate(pool, { name: 'evil', from: file }).catch((error: unknown) =>
      assert.ok(isError(error, 'SV_TOOL')),
    );

    assert.equal(existsSync(join(pool.base, 'escaped')), false);
    if (existsSync(at.templateDir('evil'))) await removeTemplate(pool, 'evil');
  });

  it('refuses what is no tar, and one that is cut off', async () => {
    const whole = join(pool.base, 'tree.tar.gz');
    const cut = join(pool.base, 'cut.tar.gz');
    writeFileSync(cut, readFileSync(whole).subarray(0, 300));
    const junk = join(pool.base, 'junk');
    writeFileSync(junk, 'x'.repeat(100_000));

    await refuses(pool, { name: 'cut', from: cut }, 'SV_TOOL');
    await refuses(pool, { name: 'junk', from: junk, format: 'tar' }, 'SV_TOOL');
  });
});

async function inside(image: string, fsType: FsType, look: (root: string) => void): Promise<void> {
  using mount = await mountPrivately(image, { fsType, readOnly: true });
  look(`/proc/${process.pid}/fd/${mount.fd}/.`);
}

/** What a root file system has that a naive copy loses. */
function makeSource(root: string): void {
  for (const directory of ['etc', 'home/user', 'usr/bin', 'tmp', 'dev'])
    mkdirSync(join(root, directory), { recursive: true });
  const file = (path: string, content: string) => writeFileSync(join(root, path), content);
  file('etc/passwd', 'root');
  run('ln', join(root, 'etc/passwd'), join(root, 'etc/passwd-'));
  file('home/user/file', 'mine');
  chownSync(join(root, 'home/user/file'), 1000, 1001);
  symlinkSync('/etc/shadow', join(root, 'home/user/link'));
  file('usr/bin/su', '#!');
  chmodSync(join(root, 'usr/bin/su'), 0o4755);
  file('usr/bin/ping', '#!');
  run('setcap', 'cap_net_raw+ep', join(root, 'usr/bin/ping'));
  chmodSync(join(root, 'tmp'), 0o1777);
  run('mknod', join(root, 'dev/sda'), 'b', '8', '0');
  run('mknod', join(root, 'dev/null'), 'c', '1', '3');
  run('setfattr', '-n', 'user.note', '-v', 'hello', join(root, 'etc/passwd'));
  run('setfacl', '-m', 'u:1000:rw', join(root, 'etc/passwd'));
  chownSync(root, 1000, 1000);
}
