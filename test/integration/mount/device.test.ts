import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { FS_TYPES } from '../../../src/engine/model.ts';
import { loopsOf } from '../../../src/mount/loops.ts';
import { image, makeImage } from '../../rig/images.ts';
import { file, withBench } from './fixture.ts';

const code =
  (expected: string, text = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof Error && 'code' in error, String(error));
    assert.equal(error.code, expected, error.message);
    assert.match(error.message, text);
    return true;
  };

describe('the device of a file', () => {
  for (const fsType of FS_TYPES)
    test(`is a loop device of 512-byte blocks that goes when it is let go (${fsType})`, async () => {
      await withBench(async ({ pool, mounter }) => {
        const source = pool.clone(fsType, 'c');
        const device = await mounter.openDevice(file(source), { readOnly: false });

        assert.equal(device.fsType, fsType);
        assert.match(device.uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);
        const block = `/sys/block/${basename(device.path)}`;
        assert.equal(readFileSync(`${block}/dev`, 'utf8').trim(), device.devno);
        assert.equal(readFileSync(`${block}/queue/logical_block_size`, 'utf8').trim(), '512');

        await device[Symbol.asyncDispose]();
        await device[Symbol.asyncDispose]();
        await mounter.released(file(source), { timeoutMs: 2000 });
      });
    });

  test('goes around the page cache where the file allows it (one that shares blocks on XFS does not, with blocks of 512 bytes)', async () => {
    await withBench(async ({ pool, mounter }) => {
      const source = join(pool.dir, 'plain');
      execFileSync('cp', ['--reflink=never', '--sparse=always', image('ext4'), source]);
      await using device = await mounter.openDevice(file(source), { readOnly: false });
      assert.equal(readFileSync(`/sys/block/${basename(device.path)}/loop/dio`, 'utf8').trim(), '1');
    });
  });

  test('is one and the same when it is asked for twice, also at once and after the asker has died', async () => {
    await withBench(async ({ pool, mounter }) => {
      const source = pool.clone('ext4', 'c');
      const devices = await Promise.all(
        Array.from({ length: 8 }, () => mounter.openDevice(file(source), { readOnly: false })),
      );
      assert.equal(new Set(devices.map(d => d.path)).size, 1);
      assert.equal(loopsOf('/sys', source).length, 1);
      for (const device of devices) await device[Symbol.asyncDispose]();
      await mounter.released(file(source), { timeoutMs: 2000 });
    });
  });

  test('is never one of two: a loop device of another program is in the way', async () => {
    await withBench(async ({ pool, mounter }) => {
      const source = pool.clone('xfs', 'c');
      const loop = execFileSync('losetup', ['-f', '--show', source], { encoding: 'utf8' }).trim();
      try {
        await assert.rejects(
          mounter.openDevice(file(source), { readOnly: false }),
          code('SV_VOLUME_IN_USE', new RegExp(`it is ${loop} already`)),
        );
        await assert.rejects(mounter.released(file(source), { timeoutMs: 20 }), code('SV_BUSY', new RegExp(loop)));
      } finally {
        execFileSync('losetup', ['-d', loop]);
      }
    });
  });

  test('is refused for a second reader when it is writable, and the other way round', async () => {
    await withBench(async ({ pool, mounter }) => {
      const source = pool.clone('ext4', 'c');
      await using device = await mounter.openDevice(file(source), { readOnly: true });
      assert.equal(readFileSync(`/sys/block/${basename(device.path)}/ro`, 'utf8').trim(), '1');
      await assert.rejects(
        mounter.openDevice(file(source), { readOnly: false }),
        code('SV_VOLUME_IN_USE', /read-only/),
      );
    });
  });

  test('is refused while another program holds a lock on the file', async () => {
    await withBench(async ({ pool, mounter }) => {
      const source = pool.clone('ext4', 'c');
      const script = 'exec 9< "$0"; flock 9; echo locked; exec sleep 60';
      const holder = spawn('sh', ['-c', script, source], { stdio: ['ignore', 'pipe', 'ignore'] });
      try {
        await new Promise(resolve => holder.stdout.once('data', resolve));
        await assert.rejects(
          mounter.openDevice(file(source), { readOnly: false }),
          code('SV_VOLUME_IN_USE', /another program holds a lock/),
        );
      } finally {
        const gone = new Promise(resolve => holder.once('exit', resolve));
        holder.kill('SIGKILL');
        await gone;
      }
    });
  });

  test('is refused for what is not a regular file, and nothing of it is opened', async () => {
    await withBench(async ({ pool, mounter }) => {
      const real = pool.clone('ext4', 'real');
      const at = (name: string) => join(pool.dir, name);
      symlinkSync(real, at('link'));
      execFileSync('mkfifo', [at('fifo')]);
      execFileSync('mknod', [at('block'), 'b', '7', '250']);
      execFileSync('mknod', [at('char'), 'c', '10', '130']); // a watchdog: opening one resets the host a minute later
      mkdirSync(at('dir'));
      for (const [name, text] of [
        ['link', /symbolic link/],
        ['fifo', /FIFO/],
        ['block', /block device/],
        ['char', /character device/],
        ['dir', /directory/],
      ] as const)
        await assert.rejects(mounter.openDevice(file(at(name)), { readOnly: false }), code('SV_IMAGE_REFUSED', text));
      for (const name of ['missing', 'real/below'])
        await assert.rejects(mounter.openDevice(file(at(name)), { readOnly: false }), code('SV_VOLUME_NOT_FOUND'));
    });
  });

  test('is refused for an image without a file system of ours, saying what it is', async () => {
    await withBench(async ({ pool, mounter }) => {
      const make = (name: string, content: string | Buffer = '') => {
        writeFileSync(join(pool.dir, name), content);
        return join(pool.dir, name);
      };
      const blank = make('blank');
      truncateSync(blank, 1 << 20);
      const swap = make('swap');
      truncateSync(swap, 1 << 20);
      execFileSync('mkswap', ['-q', swap]);
      const qcow2 = make('qcow2');
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', qcow2, '1M']);
      for (const [path, text] of [
        [make('empty'), /an empty file/],
        [blank, /blank/],
        [swap, /swap space/],
        [qcow2, /a qcow2 image/],
        [make('text', 'hello'), /without any file system/],
      ] as const)
        await assert.rejects(mounter.openDevice(file(path), { readOnly: false }), code('SV_IMAGE_REFUSED', text));
    });
  });

  test('is refused for images that would act beyond themselves', async () => {
    await withBench(async ({ pool, mounter }) => {
      const at = (name: string) => join(pool.dir, name);
      makeImage('ext4', at('options'));
      execFileSync('debugfs', ['-w', '-R', 'ssv mount_opts journal_path=/dev/vda', at('options')], {
        stdio: 'ignore',
      });
      makeImage('ext4', at('mmp'), { args: ['-O', 'mmp'] });
      for (const [name, text] of [
        ['options', /mount options of its own \("journal_path=\/dev\/vda"\)/],
        ['mmp', /multiple mount protection/],
      ] as const)
        await assert.rejects(mounter.openDevice(file(at(name)), { readOnly: false }), code('SV_IMAGE_REFUSED', text));
    });
  });
});

describe('a block device', () => {
  test('is used as it is, through a symlink too, and refused while it is mounted elsewhere', async () => {
    await withBench(async ({ pool, mounter, spec, attach, dir }) => {
      const source = pool.clone('ext4', 'c');
      const loop = execFileSync('losetup', ['-f', '--show', source], { encoding: 'utf8' }).trim();
      const link = join(dirname(pool.dir), 'by-id');
      symlinkSync(loop, link);
      try {
        const image = { kind: 'device', path: link } as const;
        const mount = spec('m');
        await attach(image, mount);
        await attach(image, mount); // doing it twice is one effect
        await assert.rejects(attach(image, spec('other')), code('SV_VOLUME_IN_USE', /mounted already/));
        await assert.rejects(mounter.released(image, { timeoutMs: 10 }), code('SV_BUSY', /mounted at/));
        await mounter.unmount(mount.path, { lazy: false });
        await mounter.released(image, { timeoutMs: 0 });

        mkdirSync(join(dir, 'foreign'));
        execFileSync('mount', [loop, join(dir, 'foreign')]);
        await assert.rejects(
          mounter.openDevice(image, { readOnly: false }),
          code('SV_VOLUME_IN_USE', /mounted at ".*foreign"/),
        );
        execFileSync('umount', [join(dir, 'foreign')]);
        rmSync(join(dir, 'foreign'), { recursive: true });
      } finally {
        execFileSync('losetup', ['-d', loop]);
        rmSync(link);
      }
    });
  });

  test('is not found where there is none, and refused where there is something else', async () => {
    await withBench(async ({ pool, mounter }) => {
      const open = (path: string) => mounter.openDevice({ kind: 'device', path }, { readOnly: false });
      await assert.rejects(open('/dev/no-such-disk'), code('SV_VOLUME_NOT_FOUND'));
      await assert.rejects(open(pool.clone('ext4', 'c')), code('SV_IMAGE_REFUSED', /not a block device/));
      await assert.rejects(open('/dev/null'), code('SV_IMAGE_REFUSED', /not a block device/));
    });
  });
});
