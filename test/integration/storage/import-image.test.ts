import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { FS_TYPES } from '../../../src/engine/model.ts';
import { isError } from '../../../src/errors.ts';
import { importTemplate } from '../../../src/storage/import/import.ts';
import type { ImportRequest } from '../../../src/storage/import/request.ts';
import { setImmutable } from '../../../src/storage/import/staging.ts';
import { layout } from '../../../src/storage/layout.ts';
import { reflinkBackend } from '../../../src/storage/reflink.ts';
import { listTemplates, removeTemplate, showTemplate, verifyTemplate } from '../../../src/storage/templates.ts';
import { makePool, run } from '../../rig/pool.ts';
import { makeTreeImage } from '../../rig/tree.ts';
import { hostState } from './host-state.ts';

const pool = makePool('xfs');
const at = layout(pool.poolDir);
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
    await refuses({ name: 'based', from: file('based'), idBase: 200_000 }, 'SV_IMAGE_REFUSED', /100000:100000/);
    await refuses({ name: 'based', from: file('ext4'), idBase: 100_000 }, 'SV_IMAGE_REFUSED', /0:0/);
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
        await refuses({ name: 'device', from: device }, 'SV_VOLUME_IN_USE');
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

    for (const [name, code] of bad) await refuses({ name: 'bad', from: file(name) }, code);
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

    for (const [request, code] of bad) await refuses(request, code);
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

    await refuses({ name: 'q', from: file('backed.qcow2') }, 'SV_IMAGE_REFUSED', /backing file/);
    await refuses({ name: 'q', from: file('external.qcow2') }, 'SV_IMAGE_REFUSED', /another file/);
    await refuses({ name: 'q', from: file('ext4.qcow2'), format: 'raw' }, 'SV_IMAGE_REFUSED', /qcow2/i);
  });
});

describe('template import over http', () => {
  it('downloads, follows a redirect, and checks the sha256', async () => {
    await serving(
      (request, response) => {
        if (request.url === '/moved') response.writeHead(302, { location: '/image' }).end();
        else response.end(readFileSync(file('ext4.qcow2')));
      },
      async url => {
        const { template } = await importTemplate(pool, { name: 'web', from: `${url}/moved` });
        assert.equal(template.fsType, 'ext4');
        await removeTemplate(pool, 'web');
        await refuses({ name: 'web', from: `${url}/image`, sha256: '0'.repeat(64) }, 'SV_CHECKSUM');
      },
    );
  });

  it('gives up on errors, loops, short and endless bodies, and leaves nothing', async () => {
    await serving(
      (request, response) => {
        if (request.url === '/loop') response.writeHead(302, { location: '/loop' }).end();
        else if (request.url === '/file') response.writeHead(302, { location: 'file:///etc/passwd' }).end();
        else if (request.url === '/short') {
          response.writeHead(200, { 'content-length': 1000 });
          response.write('x');
          setTimeout(() => response.destroy(), 20);
        } else if (request.url === '/huge') response.writeHead(200, { 'content-length': 2 ** 50 }).end();
        else response.writeHead(404).end();
      },
      async url => {
        for (const path of ['/none', '/loop', '/file', '/short'])
          await refuses({ name: 'web', from: url + path }, 'SV_DOWNLOAD');
        await refuses({ name: 'web', from: `${url}/huge` }, 'SV_NO_SPACE');
        await refuses({ name: 'web', from: 'http://127.0.0.1:1/' }, 'SV_DOWNLOAD');
      },
    );
  });
});

describe('a template', () => {
  it('is imported once: a second one of its name is refused', async () => {
    await importTemplate(pool, { name: 'once', from: file('ext4') });

    await refuses({ name: 'once', from: file('xfs') }, 'SV_TEMPLATE_EXISTS');

    await removeTemplate(pool, 'once');
  });

  it('is imported once when two import it at the same time', async () => {
    const results = await Promise.allSettled(
      [1, 2].map(() => importTemplate(pool, { name: 'twice', from: file('ext4') })),
    );

    const refused = results.find(r => r.status === 'rejected');
    assert.equal(results.filter(r => r.status === 'fulfilled').length, 1);
    assert.ok(isError(refused?.reason, 'SV_LOCKED', 'SV_TEMPLATE_EXISTS'), String(refused?.reason));
    await removeTemplate(pool, 'twice');
  });

  it('cannot be removed while a snapshot of it exists', async () => {
    const { template } = await importTemplate(pool, { name: 'used', from: file('ext4') });
    const backend = reflinkBackend(pool);
    await backend.snapshot(template, 'used/a1', {});

    await assert.rejects(removeTemplate(pool, 'used'), e => isError(e, 'SV_TEMPLATE_IN_USE'));

    assert.equal(showTemplate(pool, 'used').snapshots, 1);
    await backend.removeSnapshot('used/a1');
    await removeTemplate(pool, 'used');
    await assert.rejects(removeTemplate(pool, 'used'), e => isError(e, 'SV_TEMPLATE_NOT_FOUND'));
    await assert.rejects(backend.snapshot(template, 'used/a2', {}), e => isError(e, 'SV_TEMPLATE_NOT_FOUND'));
    assert.equal(existsSync(at.snapshotDir('used')), false);
  });

  it('is not vouched for when it was changed, or could be', async () => {
    const { template } = await importTemplate(pool, { name: 'changed', from: file('ext4') });
    assert.throws(() => openSync(template.path, 'r+'), /EPERM/);
    setImmutable(template.path, false);
    scribble(template.path, 2 ** 20, 1);

    await assert.rejects(verifyTemplate(pool, 'changed', quiet), e => isError(e, 'SV_CHECKSUM'));
    run('chmod', '600', template.path);
    await assert.rejects(verifyTemplate(pool, 'changed', quiet), e => isError(e, 'SV_IMAGE_REFUSED'));

    await removeTemplate(pool, 'changed');
  });
});

async function refuses(request: ImportRequest, code: Parameters<typeof isError>[1], text = /./): Promise<void> {
  const before = hostState(pool.poolDir);
  await assert.rejects(
    importTemplate(pool, request),
    e => {
      assert.ok(code && isError(e, code) && text.test(e.message), `${JSON.stringify(request)}: ${e}`);
      return true;
    },
    JSON.stringify(request),
  );
  assert.deepEqual(hostState(pool.poolDir), before);
}

/** Bytes turned around, so that they are surely different. */
function scribble(path: string, start: number, count: number): void {
  const fd = openSync(path, 'r+');
  const bytes = Buffer.alloc(count);
  readSync(fd, bytes, 0, count, start);
  writeSync(
    fd,
    bytes.map(b => ~b & 0xff),
    0,
    count,
    start,
  );
  closeSync(fd);
}

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

async function serving(listener: RequestListener, work: (url: string) => Promise<void>): Promise<void> {
  const server = createServer(listener);
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  try {
    await work(`http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
