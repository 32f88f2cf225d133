import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { isError } from '../../../src/errors.ts';
import { createPool, ensurePool, growPool, removePool } from '../../../src/storage/pool.ts';
import { checkPool, poolStatus } from '../../../src/storage/pool-status.ts';
import { listTree, run } from '../../rig/pool.ts';

const GIB = 2 ** 30;

describe('the pool', () => {
  it('is made, found whole, and removed without a trace', async () => {
    using rig = scratch();
    const before = hostState(rig.base);

    const status = await createPool(rig.paths, { sizeBytes: GIB });

    assert.equal(status.kind, 'image');
    assert.ok(status.mounted && status.reflink && status.freeBytes > 0.8 * GIB);
    assert.equal(statSync(rig.paths.poolDir).mode & 0o777, 0o700);
    assert.equal(statSync(join(rig.paths.stateDir, 'pool.img')).mode & 0o777, 0o600);
    assert.match(mountLine(rig.paths.poolDir), /nosuid,nodev,noexec/);
    await removePool(rig.paths);
    rmSync(rig.paths.stateDir, { recursive: true });
    assert.deepEqual(hostState(rig.base), before);
  });

  it('is mounted again after a reboot, once, by whoever comes first', async () => {
    using rig = scratch();
    await createPool(rig.paths, { sizeBytes: GIB });
    writeFileSync(join(rig.paths.poolDir, 'kept'), 'data');
    run('umount', rig.paths.poolDir);

    await Promise.all([ensurePool(rig.paths), ensurePool(rig.paths), ensurePool(rig.paths)]);
    await ensurePool(rig.paths);

    assert.equal(readFileSync(join(rig.paths.poolDir, 'kept'), 'utf8'), 'data');
    assert.equal(mountLines(rig.paths.poolDir).length, 1);
    rmSync(join(rig.paths.poolDir, 'kept'));
    await removePool(rig.paths);
  });

  it('needs nothing to be ensured where there is no image', async () => {
    using rig = scratch();

    await ensurePool(rig.paths);

    assert.equal(existsSync(rig.paths.poolDir), false);
    assert.throws(
      () => poolStatus(rig.paths),
      e => isError(e, 'SV_POOL_NOT_FOUND'),
    );
  });

  it('grows while it is mounted, and never shrinks', async () => {
    using rig = scratch();
    await createPool(rig.paths, { sizeBytes: GIB });

    const grown = await growPool(rig.paths, { sizeBytes: 3 * GIB });

    assert.ok(grown.sizeBytes > 2.9 * GIB, `${grown.sizeBytes}`);
    assert.ok((await growPool(rig.paths, { sizeBytes: 3 * GIB })).sizeBytes > 2.9 * GIB);
    await assert.rejects(growPool(rig.paths, { sizeBytes: GIB }), e => isError(e, 'SV_USAGE'));
    await removePool(rig.paths);
  });

  it('finishes a growth that was cut off after the file had grown', async () => {
    using rig = scratch();
    await createPool(rig.paths, { sizeBytes: GIB });
    truncateSync(join(rig.paths.stateDir, 'pool.img'), 2 * GIB);

    const grown = await growPool(rig.paths, { sizeBytes: 2 * GIB });

    assert.ok(grown.sizeBytes > 1.9 * GIB);
    await removePool(rig.paths);
  });

  it('refuses what would hide or overwrite something, and changes nothing', async () => {
    using rig = scratch();
    mkdirSync(rig.paths.poolDir, { recursive: true });
    writeFileSync(join(rig.paths.poolDir, 'theirs'), 'theirs');
    const before = hostState(rig.base);

    await assert.rejects(createPool(rig.paths, { sizeBytes: GIB }), e => isError(e, 'SV_POOL_EXISTS'));
    await assert.rejects(createPool(rig.paths, { sizeBytes: 4096 }), e => isError(e, 'SV_USAGE'));
    await assert.rejects(growPool(rig.paths, { sizeBytes: GIB }), e => isError(e, 'SV_POOL_NOT_FOUND'));
    await assert.rejects(removePool(rig.paths), e => isError(e, 'SV_POOL_NOT_FOUND'));

    assert.deepEqual(hostState(rig.base), before);
  });

  it('is made once when two make it at the same time', async () => {
    using rig = scratch();

    const results = await Promise.allSettled([1, 2].map(() => createPool(rig.paths, { sizeBytes: GIB })));

    const refused = results.find(r => r.status === 'rejected');
    assert.equal(results.filter(r => r.status === 'fulfilled').length, 1);
    assert.ok(isError(refused?.reason, 'SV_LOCKED', 'SV_POOL_EXISTS'), String(refused?.reason));
    assert.equal(mountLines(rig.paths.poolDir).length, 1);
    await removePool(rig.paths);
  });

  it('is not removed while it holds anything', async () => {
    using rig = scratch();
    await createPool(rig.paths, { sizeBytes: GIB });
    mkdirSync(join(rig.paths.poolDir, 'snapshots', 'web'), { recursive: true });
    writeFileSync(join(rig.paths.poolDir, 'snapshots', 'web', 'a1'), '');

    await assert.rejects(removePool(rig.paths), e => isError(e, 'SV_BUSY'));

    assert.ok(poolStatus(rig.paths).mounted);
    rmSync(join(rig.paths.poolDir, 'snapshots'), { recursive: true });
    await removePool(rig.paths);
  });

  it('says what to do where the file system cannot share extents', () => {
    using rig = scratch();
    mkdirSync(rig.paths.poolDir, { recursive: true });

    assert.throws(
      () => checkPool(rig.paths.poolDir),
      e => isError(e, 'SV_HOST') && /pool create/.test(e.remedy ?? ''),
    );
    assert.throws(
      () => checkPool('/nonexistent'),
      e => isError(e, 'SV_POOL_NOT_FOUND'),
    );
    assert.deepEqual(listTree(rig.paths.poolDir), []);
  });
});

/** Directories below /tmp, which is ext4 here. A test that fails half way leaves a mount: taken away as well. */
function scratch() {
  const base = mkdtempSync(join(tmpdir(), 'shiftvol-pool-'));
  const stateDir = join(base, 'state');
  const paths = { stateDir, poolDir: join(stateDir, 'pool') };
  return {
    base,
    paths,
    [Symbol.dispose]() {
      for (const _ of mountLines(paths.poolDir)) run('umount', paths.poolDir);
      rmSync(base, { recursive: true });
    },
  };
}

function hostState(base: string) {
  return {
    tree: listTree(base),
    mounts: mountLines(base),
    loops: run('losetup', '--all', '--noheadings', '-O', 'BACK-FILE')
      .split('\n')
      .filter(l => l.includes(base)),
  };
}

function mountLines(path: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter(line => line.split(' ')[4]?.startsWith(path));
}

function mountLine(path: string): string {
  return mountLines(path)[0] ?? '';
}
