import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { describe, test } from 'node:test';
import { FS_TYPES } from '../../../src/engine/model.ts';
import { readMountinfo, topmostAt } from '../../../src/mount/mountinfo.ts';
import { hostState } from '../../rig/host.ts';
import { type Bench, file, withBench } from './fixture.ts';

const code =
  (expected: string, text = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof Error && 'code' in error, String(error));
    assert.equal(error.code, expected, error.message);
    assert.match(error.message, text);
    return true;
  };

/** A process with a mount namespace of its own, in which `script` was run: it may use $DIR. Sleeps then. */
async function container(
  script: string,
  dir: string,
): Promise<AsyncDisposable & { pid: number; run(script: string): string }> {
  const child = spawn(
    'unshare',
    ['-m', '--propagation', 'private', 'sh', '-c', `${script}; echo ready; exec sleep 100`],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: '/',
      env: { ...process.env, DIR: dir },
    },
  );
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve);
    child.once('exit', () => reject(new Error('the container has ended')));
  });
  const pid = child.pid ?? -1;
  return {
    pid,
    run: s =>
      execFileSync('nsenter', ['-t', String(pid), '-m', 'sh', '-c', s], {
        encoding: 'utf8',
        env: { ...process.env, DIR: dir },
      }),
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise(resolve => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    },
  };
}

async function attached(
  { pool, mounter, spec, attach }: Bench,
  fsType: (typeof FS_TYPES)[number],
): Promise<{ path: string; devno: string }> {
  await attach(file(pool.clone(fsType, 'c')), spec('m'));
  const mounted = await mounter.inspect(spec('m').path);
  assert.ok(mounted);
  return mounted;
}

/** Where this process is, and what its namespace shows of the test. */
function here({ dir }: Bench): unknown {
  return { cwd: process.cwd(), namespace: readlinkSync('/proc/self/ns/mnt'), mounts: hostState(dir).mounts };
}

describe('unmountInside', () => {
  for (const fsType of FS_TYPES)
    test(`takes the mount away inside and nowhere else, and twice is once (${fsType})`, async () => {
      await withBench(async bench => {
        const { path, devno } = await attached(bench, fsType);
        await using inside = await container(
          'mount -t tmpfs t /mnt; mkdir /mnt/data; mount --bind $DIR /mnt/data',
          path,
        );
        const before = here(bench);

        await bench.mounter.unmountInside(inside.pid, '/mnt/data', devno, { lazy: false });
        assert.equal(topmostAt(readMountinfo('/proc', inside.pid), '/mnt/data'), undefined);
        await bench.mounter.unmountInside(inside.pid, '/mnt/data', devno, { lazy: false });
        await bench.mounter.unmountInside(inside.pid, '/mnt/none/at/all', devno, { lazy: false });

        assert.deepEqual(here(bench), before);
        assert.ok(await bench.mounter.inspect(path));
        await bench.mounter.unmountInside(inside.pid, path, devno, { lazy: false }); // the copy of the host's table
        await bench.mounter.unmount(path, { lazy: false });
      });
    });

  test('names the process that uses it, and lazy takes it away all the same', async () => {
    await withBench(async bench => {
      const { path, devno } = await attached(bench, 'ext4');
      await using inside = await container('mount --bind $DIR /mnt; umount $DIR; exec 3< /mnt/root', path);
      await assert.rejects(
        bench.mounter.unmountInside(inside.pid, '/mnt', devno, { lazy: false }),
        code('SV_BUSY', new RegExp(`sleep \\(pid ${inside.pid}, open file`)),
      );
      assert.ok(topmostAt(readMountinfo('/proc', inside.pid), '/mnt'));
      await bench.mounter.unmountInside(inside.pid, '/mnt', devno, { lazy: true });
      assert.equal(topmostAt(readMountinfo('/proc', inside.pid), '/mnt'), undefined);
      await inside[Symbol.asyncDispose]();
      await bench.mounter.unmount(path, { lazy: false });
    });
  });

  test('leaves alone what is not that device: another mount, a symlink, a directory', async () => {
    await withBench(async bench => {
      const { path, devno } = await attached(bench, 'ext4');
      const script =
        'mount -t tmpfs t /mnt; cd /mnt; mkdir tmp dir bind; mount -t tmpfs t tmp; mount --bind $DIR bind; ln -s bind link; ln -s /mnt /mnt/self; cd /';
      await using inside = await container(script, path);
      const before = readFileSync(`/proc/${inside.pid}/mountinfo`, 'utf8');
      for (const target of ['/mnt/tmp', '/mnt/dir', '/mnt/link', '/mnt/self/bind', '/mnt'])
        await bench.mounter.unmountInside(inside.pid, target, devno, { lazy: true });
      assert.equal(readFileSync(`/proc/${inside.pid}/mountinfo`, 'utf8'), before);
      for (const target of ['bind', '/mnt/../mnt/bind', '/'])
        await assert.rejects(
          bench.mounter.unmountInside(inside.pid, target, devno, { lazy: false }),
          code('SV_TARGET_INVALID'),
        );
      await inside[Symbol.asyncDispose]();
      await bench.mounter.unmount(path, { lazy: false });
    });
  });

  test('refuses a process of the host, and has nothing to do for one that has ended', async () => {
    await withBench(async bench => {
      const { path, devno } = await attached(bench, 'ext4');
      await assert.rejects(
        bench.mounter.unmountInside(process.pid, path, devno, { lazy: false }),
        code('SV_RUNTIME', /host’s own/),
      );
      const gone = await container('true', path);
      await gone[Symbol.asyncDispose]();
      await bench.mounter.unmountInside(gone.pid, path, devno, { lazy: false });
      assert.ok(await bench.mounter.inspect(path));
      await bench.mounter.unmount(path, { lazy: false });
    });
  });

  test('does not keep a program from ending', () => {
    const script = `
      import { KernelMounter } from ${JSON.stringify(new URL('../../../src/mount/mounter.ts', import.meta.url).href)};
      await new KernelMounter().unmountInside(${process.pid}, '/mnt/none', '7:99', { lazy: false }).catch(() => {});
      const { spawn } = await import('node:child_process');
      const c = spawn('unshare', ['-m', 'sleep', '100'], { stdio: 'ignore' });
      await new Promise(r => setTimeout(r, 100));
      await new KernelMounter().unmountInside(c.pid, '/mnt/none', '7:99', { lazy: false });
      c.kill('SIGKILL');
    `;
    execFileSync(process.execPath, ['--input-type=module', '-e', script], { timeout: 10000, stdio: 'inherit' });
  });
});
