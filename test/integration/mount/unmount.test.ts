import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FS_TYPES } from '../../../src/engine/model.ts';
import { file, withBench } from './fixture.ts';

const busy = (text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Error && 'code' in error, String(error));
  assert.equal(error.code, 'SV_BUSY', error.message);
  assert.match(error.message, text);
  return true;
};

/** A shell that has done `script` and then sleeps. */
async function holder(script: string): Promise<ChildProcess & AsyncDisposable> {
  const child = spawn('sh', ['-c', `${script} && echo ready && exec sleep 100`], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: '/',
  });
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve);
    child.once('exit', () => reject(new Error(`the holder has ended: ${script}`)));
  });
  await sleep(20); // exec
  return Object.assign(child, {
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise(resolve => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    },
  });
}

describe('unmount', () => {
  for (const fsType of FS_TYPES)
    test(`names who keeps it busy and changes nothing; lazy takes it away from under him (${fsType})`, async () => {
      await withBench(async ({ pool, mounter, spec, attach }) => {
        const image = file(pool.clone(fsType, 'c'));
        const { path } = spec('m');
        await attach(image, spec('m'));
        {
          await using cwd = await holder(`cd ${path}`);
          await assert.rejects(
            mounter.unmount(path, { lazy: false }),
            busy(new RegExp(`sleep \\(pid ${cwd.pid}, cwd\\)`)),
          );
          await using opened = await holder(`exec 3< ${path}/root`);
          await assert.rejects(
            mounter.unmount(path, { lazy: false }),
            busy(new RegExp(`sleep \\(pid ${opened.pid}, open file ${path}/root\\)`)),
          );
          assert.ok(await mounter.inspect(path));

          await mounter.unmount(path, { lazy: true });
          assert.equal(await mounter.inspect(path), undefined);
          assert.ok(!existsSync(path));
          await assert.rejects(mounter.released(image, { timeoutMs: 50 }), busy(/is still used by/));
        }
        await mounter.released(image, { timeoutMs: 2000 });
      });
    });

  test('names a mapped file, a mount below and a loop image stored on it', async () => {
    await withBench(async ({ pool, mounter, spec, attach, dir }) => {
      const { path } = spec('m');
      await attach(file(pool.clone('ext4', 'c')), spec('m'));

      const script = `import mmap,time; f=open('${path}/setuid','rb'); m=mmap.mmap(f.fileno(),0,prot=1); f.close(); print('x',flush=True); time.sleep(100)`;
      const python = spawn('/usr/bin/python3', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
      await new Promise(resolve => python.stdout.once('data', resolve));
      await assert.rejects(mounter.unmount(path, { lazy: false }), busy(/python3 \(pid \d+, mapped file .*setuid\)/));
      const gone = new Promise(resolve => python.once('exit', resolve));
      python.kill('SIGKILL');
      await gone;

      execFileSync('mount', ['-t', 'tmpfs', 'theirs', join(path, 'sticky')]);
      writeFileSync(join(path, 'sticky/file'), 'kept');
      for (const lazy of [false, true])
        await assert.rejects(
          mounter.unmount(path, { lazy }),
          busy(/tmpfs .*mounted below it at .*sticky|a tmpfs is mounted below it/),
        );
      assert.equal(readFileSync(join(path, 'sticky/file'), 'utf8'), 'kept');
      execFileSync('umount', [join(path, 'sticky')]);

      const stored = join(path, 'root');
      const loop = execFileSync('losetup', ['-f', '--show', stored], { encoding: 'utf8' }).trim();
      await assert.rejects(mounter.unmount(path, { lazy: false }), busy(new RegExp(`loop device of ${stored}`)));
      execFileSync('losetup', ['-d', loop]);

      await mounter.unmount(path, { lazy: false });
      assert.ok(existsSync(dir));
    });
  });

  test('leaves a mount alone that is not ours: in its place, or on top of it', async () => {
    await withBench(async ({ pool, mounter, spec, attach }) => {
      const { path } = spec('m');
      mkdirSync(path);
      execFileSync('mount', ['-t', 'tmpfs', 'theirs', path]);
      for (const lazy of [false, true])
        await assert.rejects(mounter.unmount(path, { lazy }), busy(/tmpfs is mounted there/));
      execFileSync('umount', [path]);

      await attach(file(pool.clone('ext4', 'c')), spec('m'));
      execFileSync('mount', ['-t', 'tmpfs', 'theirs', path]);
      for (const lazy of [false, true])
        await assert.rejects(mounter.unmount(path, { lazy }), busy(/tmpfs is mounted there/));
      assert.ok(await mounter.inspect(path));
      execFileSync('umount', [path]);
      await mounter.unmount(path, { lazy: false });
    });
  });

  test('done twice is one effect; an empty directory is removed, one with something in it is not', async () => {
    await withBench(async ({ pool, mounter, spec, attach }) => {
      const { path } = spec('m');
      await mounter.unmount(path, { lazy: false });
      await attach(file(pool.clone('ext4', 'c')), spec('m'));
      await mounter.unmount(path, { lazy: false });
      await mounter.unmount(path, { lazy: true });
      mkdirSync(path);
      await mounter.unmount(path, { lazy: false });
      assert.ok(!existsSync(path));

      mkdirSync(path);
      writeFileSync(join(path, 'theirs'), '');
      await assert.rejects(mounter.unmount(path, { lazy: false }), busy(/not empty/));
      assert.ok(existsSync(join(path, 'theirs')));
      rmSync(path, { recursive: true });
    });
  });

  test('released names the mount namespace that has a copy, also one without a process', async () => {
    await withBench(async ({ pool, mounter, spec, attach }) => {
      const image = file(pool.clone('xfs', 'c'));
      const { path } = spec('m');
      await attach(image, spec('m'));
      const other = await holder(
        `exec unshare -m --propagation private sh -c "mount --bind ${path} /mnt; echo ready; exec sleep 100" && true`,
      );
      await mounter.unmount(path, { lazy: false });
      await assert.rejects(
        mounter.released(image, { timeoutMs: 50 }),
        busy(new RegExp(`sleep \\(pid ${other.pid}, mounted at /mnt in mount namespace mnt:`)),
      );

      const pin = openSync(`/proc/${other.pid}/ns/mnt`, 'r');
      try {
        await other[Symbol.asyncDispose]();
        await assert.rejects(mounter.released(image, { timeoutMs: 50 }), busy(/which has no process/));
      } finally {
        closeSync(pin);
      }
      await mounter.released(image, { timeoutMs: 2000 });
      await mounter.released(file(join(pool.dir, 'missing')), { timeoutMs: 0 });
    });
  });
});
