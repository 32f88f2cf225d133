import assert from 'node:assert/strict';
import { existsSync, ftruncateSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { type Fd, type Owned, open } from '../../../src/kernel/fd.ts';
import { tryLock } from '../../../src/kernel/file-lock.ts';
import { KernelLog } from '../../../src/kernel/kmsg.ts';
import { loopAttach, loopStatus } from '../../../src/kernel/loop.ts';
import {
  fsconfigCreate,
  fsconfigCreateAsync,
  fsconfigFlag,
  fsconfigString,
  fsLog,
  fsopen,
} from '../../../src/kernel/mount.ts';
import { assertHostUnchanged, hostState } from '../../rig/host.ts';

const OPTIONS = { readOnly: false, directIo: true, name: 'test' };

async function withFile(use: (make: (name: string) => Owned<Fd>, dir: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-loop-'));
  const before = hostState(dir);
  try {
    await use(name => {
      const file = open(join(dir, name), 'w+');
      ftruncateSync(file.fd, 1 << 20);
      return file;
    }, dir);
    for (const name of ['a', 'b', 'c', 'd']) rmSync(join(dir, name), { force: true });
    await assertHostUnchanged(before);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

test('a loop device stands for its file, with blocks of 512 bytes, and is gone with its last descriptor', async () => {
  await withFile(async (make, dir) => {
    const file = make('a');
    const loop = await loopAttach(file.fd, OPTIONS);
    file[Symbol.dispose]();
    const backing = `/sys/block/${basename(loop.path)}/loop/backing_file`;

    assert.equal(readFileSync(backing, 'utf8').trim(), join(dir, 'a'));
    assert.deepEqual(
      { ...loopStatus(loop.fd), device: 0n, inode: 0n },
      {
        device: 0n,
        inode: 0n,
        readOnly: false,
        autoclear: true,
        directIo: true,
      },
    );
    loop[Symbol.dispose]();
    assert.equal(existsSync(backing), false);
  });
});

test('the lock of the file lives as long as the device', async () => {
  await withFile(async (make, dir) => {
    const file = make('a');
    assert.ok(tryLock(file.fd, 'exclusive', 'a'));
    const loop = await loopAttach(file.fd, OPTIONS);
    file[Symbol.dispose]();
    using other = open(join(dir, 'a'), 'r+');

    assert.equal(tryLock(other.fd, 'exclusive', 'a'), false);
    loop[Symbol.dispose]();
    assert.equal(tryLock(other.fd, 'exclusive', 'a'), true);
  });
});

test('allocators that race for the same number each get a device of their own', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-loops-'));
  const before = hostState(dir);
  const url = (path: string) => JSON.stringify(new URL(`../../../src/kernel/${path}`, import.meta.url).href);
  const script = `
    const { loopAttach, loopStatus } = await import(${url('loop.ts')});
    const { open } = await import(${url('fd.ts')});
    const fs = await import('node:fs');
    const { parentPort, workerData } = await import('node:worker_threads');
    const file = open(workerData, 'w+');
    fs.ftruncateSync(file.fd, 1 << 20);
    const ino = fs.fstatSync(file.fd, { bigint: true }).ino;
    let wrong = 0;
    for (let i = 0; i < 50; i++) {
      const loop = await loopAttach(file.fd, { readOnly: false, directIo: false, name: 'race' });
      if (loopStatus(loop.fd).inode !== ino) wrong++;
      loop[Symbol.dispose]();
    }
    parentPort.postMessage(wrong);
  `;
  try {
    const wrong = await Promise.all(
      ['a', 'b', 'c', 'd'].map(
        name =>
          new Promise((resolve, reject) => {
            const worker = new Worker(`(async () => {${script}})()`, { eval: true, workerData: join(dir, name) });
            worker.once('message', resolve);
            worker.once('error', reject);
          }),
      ),
    );
    assert.deepEqual(wrong, [0, 0, 0, 0]);
    for (const name of ['a', 'b', 'c', 'd']) rmSync(join(dir, name));
    await assertHostUnchanged(before);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('a bad image has its reason in the kernel log, a bad parameter in the context', async () => {
  await withFile(async make => {
    using file = make('a');
    using loop = await loopAttach(file.fd, OPTIONS);
    for (const create of [fsconfigCreate, fsconfigCreateAsync]) {
      using log = new KernelLog();
      using context = fsopen('ext4');
      fsconfigString(context.fd, 'source', loop.path);
      await assert.rejects(async () => create(context.fd, loop.path), {
        call: 'fsconfig',
        errnoName: 'EINVAL',
        object: loop.path,
      });
      assert.match(log.linesAbout(basename(loop.path)).join('\n'), /Can't find ext4 filesystem/);
      assert.deepEqual(log.linesAbout(`${basename(loop.path)}0`), []);
    }
    using context = fsopen('ext4');
    assert.throws(() => fsconfigFlag(context.fd, 'bogus'), { errnoName: 'EINVAL', object: 'bogus' });
    assert.match(fsLog(context.fd).join(), /Unknown parameter 'bogus'/);
    assert.deepEqual(fsLog(context.fd), []);
    assert.throws(() => fsopen('nosuchfs'), { errnoName: 'ENODEV', object: 'nosuchfs' });
  });
});
