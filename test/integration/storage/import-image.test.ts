import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { FS_TYPES } from '../../../src/engine/model.ts';
import type { isError } from '../../../src/errors.ts';
import { importTemplate } from '../../../src/storage/import/import.ts';
import type { ImportRequest } from '../../../src/storage/import/request.ts';
import { reflinkBackend } from '../../../src/storage/reflink.ts';
import { listTemplates, removeTemplate, verifyTemplate } from '../../../src/storage/templates.ts';
import { makePool, run } from '../../rig/pool.ts';
import { makeTreeImage } from '../../rig/tree.ts';
import { refuses, scribble } from './importing.ts';

const pool = makePool('xfs');

const file = (name: string) => join(pool.base, name);
const quiet = { onProgress() {} };
after(() => pool[Symbol.dispose]());

before(async () => {
  for (const fsType of FS_TYPES)
    await makeTreeImage(file(fsType), {
      files: 50,
      fsType,
      sizeBytes: fsType === 'xfs' ? 320 * 2 ** 20 : 256 * 2 ** 20,
    });
});

describe('template import of an image', () => {
  for (const fsType of FS_TYPES)
    it(`takes ${fsType} as it is, read-only, immutable and contiguous`, async () => {
      const { template, immutable } = await importTemplate(pool, { name: fsType, from: file(fsType) });

      assert.equal(template.fsType, fsType);
      assert.equal(template.idBase, 0);
      assert.match(template.uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-/);
      assert.ok(immutable && template.extents < 40, `${template.extents} extents`);
      assert.equal(statSync(template.path).mode & 0o777, 0o400);
      assert.deepEqual(await reflinkBackend(pool).getTemplate(fsType), template);
      assert.deepEqual(listTemplates(pool), [{ ...template, snapshots: 0 }]);
      assert.equal((await verifyTemplate(pool, fsType, quiet)).sha256, template.sha256);
      await removeTemplate(pool, fsType);
      assert.deepEqual(listTemplates(pool), []);
    });

  it('works in a btrfs pool as well', async () => {
    using other = makePool('btrfs', 2 ** 32);
    const { template, immutable } = await importTemplate(other, { name: 'web', from: file('ext4') });

    const { path } = await reflinkBackend(other).snapshot(template, 'web/a1', {});

    assert.ok(immutable);
    assert.equal((await verifyTemplate(other, 'web', quiet)).sha256, template.sha256);
    assert.equal(createHash('sha256').update(readFileSync(path)).digest('hex'), template.sha256);
    await reflinkBackend(other).removeSnapshot('web/a1');
    await removeTemplate(other, 'web');
  });

  it('replays a journal that a crash left', async () => {
    for (const fsType of ['ext4', 'xfs'] as const) {
      const crashed = crash(fsType);

      const { template } = await importTemplate(pool, { name: 'crashed', from: crashed });

      if (fsType === 'ext4') assert.match(run('dumpe2fs', '-h', template.path), /Filesystem state: +clean\n/);
      await removeTemplate(pool, 'crashed');
    }
  });

  it('lets the image not choose to stop the host', async () => {
    copyFileSync(file('ext4'), file('panic'));
    run('tune2fs', '-e', 'panic', file('panic'));

    const { template } = await importTemplate(pool, { name: 'panic', from: file('panic') });

    assert.match(run('dumpe2fs', '-h', template.path), /Errors behavior: +Remount read-only/);
    await removeTemplate(pool, 'panic');
  });

  it('counts device nodes that come with an image', async () => {
    copyFileSync(file('ext4'), file('nodes'));
    run('debugfs', '-w', '-R', 'mknod sda b 8 0', file('nodes'));

    const { deviceNodes } = await importTemplate(pool, { name: 'nodes', from: file('nodes') });

    assert.equal(deviceNodes, 1);
    await removeTemplate(pool, 'nodes');
  });

  it('finds the id base at the root directory, and refuses another one', async () => {
    run('mke2fs', '-q', '-F', '-t', 'ext4', '-E', 'root_owner=100000:100000', file('based'), '64M');

    const { template } = await importTemplate(pool, { name: 'based', from: file('based') });

    assert.equal(template.idBase, 100_000);
    await removeTemplate(pool, 'based');
    await refuses(pool, { name: 'based', from: file('based'), idBase: 200_000 }, 'SV_IMAGE_REFUSED', /100000:100000/);
    await refuses(pool, { name: 'based', from: file('ext4'), idBase: 100_000 }, 'SV_IMAGE_REFUSED', /0:0/);
  });

  it('reads a block device, and refuses one that is in use', async () => {
    copyFileSync(file('ext4'), file('disk'));
    const device = run('losetup', '--find', '--show', file('disk')).trim();
    try {
      const { template } = await importTemplate(pool, { name: 'device', from: device });
      assert.equal(template.sizeBytes, 256 * 2 ** 20);
      await removeTemplate(pool, 'device');
      mkdirSync(file('mounted'));
      run('mount', device, file('mounted'));
      try {
        await refuses(pool, { name: 'device', from: device }, 'SV_VOLUME_IN_USE');
      } finally {
        run('umount', file('mounted'));
      }
    } finally {
      run('losetup', '--detach', device);
    }
  });

  it('refuses what is dangerous, damaged or something else, and changes nothing', async () => {
    copyFileSync(file('ext4'), file('options'));
    run('debugfs', '-w', '-R', 'set_super_value mount_opts journal_path=/dev/vda', file('options'));
    writeFileSync(file('journal'), '');
    truncateSync(file('journal'), 2 ** 26);
    run('mke2fs', '-q', '-F', '-O', 'journal_dev', '-b', '4096', file('journal'));
    copyFileSync(file('ext4'), file('broken'));
    scribble(file('broken'), 4096, 4096);
    copyFileSync(file('ext4'), file('short'));
    truncateSync(file('short'), 2 ** 26);
    copyFileSync(file('xfs'), file('xfs-broken'));
    scribble(file('xfs-broken'), 512, 1024);
    writeFileSync(file('zeros'), Buffer.alloc(2 ** 20));
    writeFileSync(file('luks'), Buffer.concat([Buffer.from('LUKS\xba\xbe\0\x02', 'latin1'), Buffer.alloc(2 ** 20)]));
    writeFileSync(file('empty'), '');
    run('mke2fs', '-q', '-F', '-t', 'ext4', '-E', 'root_owner=1000:1001', file('two-owners'), '64M');
    run('mke2fs', '-q', '-F', '-t', 'ext4', '-E', 'root_owner=1000:1000', file('low-base'), '64M');
    const bad: readonly (readonly [string, Parameters<typeof isError>[1]])[] = [
      ['options', 'SV_IMAGE_REFUSED'],
      ['journal', 'SV_IMAGE_REFUSED'],
      ['broken', 'SV_IMAGE_REFUSED'],
      ['short', 'SV_IMAGE_REFUSED'],
      ['xfs-broken', 'SV_MOUNT'],
      ['zeros', 'SV_IMAGE_REFUSED'],
      ['luks', 'SV_IMAGE_REFUSED'],
      ['empty', 'SV_IMAGE_REFUSED'],
      ['two-owners', 'SV_IMAGE_REFUSED'],
      ['low-base', 'SV_USAGE'],
    ];

    for (const [name, code] of bad) await refuses(pool, { name: 'bad', from: file(name) }, code);
  });

  it('refuses requests that make no sense, and changes nothing', async () => {
    const from = file('ext4');
    const bad: readonly (readonly [ImportRequest, Parameters<typeof isError>[1]])[] = [
      [{ name: '', from }, 'SV_USAGE'],
      [{ name: '../x', from }, 'SV_USAGE'],
      [{ name: '.x', from }, 'SV_USAGE'],
      [{ name: 'X', from }, 'SV_USAGE'],
      [{ name: 'x'.repeat(65), from }, 'SV_USAGE'],
      [{ name: 'x', from: '' }, 'SV_USAGE'],
      [{ name: 'x', from: 'ftp://example.org/x' }, 'SV_USAGE'],
      [{ name: 'x', from: 'file:///etc/passwd' }, 'SV_USAGE'],
      [{ name: 'x', from: '/dev/null' }, 'SV_USAGE'],
      [{ name: 'x', from: '/nonexistent' }, 'SV_VOLUME_NOT_FOUND'],
      [{ name: 'x', from, fsType: 'xfs' }, 'SV_USAGE'],
      [{ name: 'x', from, sizeBytes: 2 ** 30 }, 'SV_USAGE'],
      [{ name: 'x', from, sha256: 'abc' }, 'SV_USAGE'],
      [{ name: 'x', from, sha256: '0'.repeat(64) }, 'SV_CHECKSUM'],
      [{ name: 'x', from, idBase: 1000 }, 'SV_USAGE'],
      [{ name: 'x', from, idBase: -1 }, 'SV_USAGE'],
      [{ name: 'x', from, idBase: 4_294_967_295 }, 'SV_USAGE'],
      [{ name: 'x', from: pool.base, format: 'raw' }, 'SV_USAGE'],
      [{ name: 'x', from: pool.poolDir }, 'SV_USAGE'],
      [{ name: 'x', from: pool.base, sha256: '0'.repeat(64) }, 'SV_USAGE'],
      [{ name: 'x', from, format: 'qcow2' }, 'SV_IMAGE_REFUSED'],
    ];

    for (const [request, code] of bad) await refuses(pool, request, code);
  });
});

describe('template import of a qcow2', () => {
  it('converts one that stands for itself', async () => {
    run('qemu-img', 'convert', '-O', 'qcow2', file('ext4'), file('ext4.qcow2'));
    const sha256 = createHash('sha256')
      .update(readFileSync(file('ext4.qcow2')))
      .digest('hex');

    const { template } = await importTemplate(pool, { name: 'qcow2', from: file('ext4.qcow2'), sha256 });

    assert.equal(template.sizeBytes, 256 * 2 ** 20);
    assert.ok(template.extents < 40, `${template.extents} extents`);
    await removeTemplate(pool, 'qcow2');
  });

  it('refuses one that would open another file, and one declared raw', async () => {
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', '/etc/passwd', '-F', 'raw', file('backed.qcow2'), '1M');
    run(
      'qemu-img',
      'create',
      '-q',
      '-f',
      'qcow2',
      '-o',
      `data_file=${file('data')},data_file_raw=on`,
      file('external.qcow2'),
      '1M',
    );

    await refuses(pool, { name: 'q', from: file('backed.qcow2') }, 'SV_IMAGE_REFUSED', /backing file/);
    await refuses(pool, { name: 'q', from: file('external.qcow2') }, 'SV_IMAGE_REFUSED', /another file/);
    await refuses(pool, { name: 'q', from: file('ext4.qcow2'), format: 'raw' }, 'SV_IMAGE_REFUSED', /qcow2/i);
  });
});

/** An image as a power cut leaves it: copied while it is mounted and its journal holds something. */
function crash(fsType: 'ext4' | 'xfs'): string {
  const [live, image, crashed] = [file(`live-${fsType}`), file(`live-${fsType}.img`), file(`crashed-${fsType}`)];
  mkdirSync(live);
  copyFileSync(file(fsType), image);
  run('mount', '-o', 'loop', image, live);
  try {
    writeFileSync(join(live, 'new'), 'written', { flush: true });
    run('xfs_io', '-x', '-c', 'shutdown -f', live);
    copyFileSync(image, crashed);
  } finally {
    run('umount', live);
  }
  return crashed;
}
