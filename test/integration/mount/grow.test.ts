/** Volumes become larger while they are in use: on real file systems, by system calls alone. Needs root. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, statfsSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { FS_TYPES, type FsType } from '../../../src/engine/model.ts';
import { isError } from '../../../src/errors.ts';
import { hasCapability } from '../../../src/kernel/capability.ts';
import { file, withBench } from './fixture.ts';

const MIB = 2 ** 20;
const LARGER = 2048 * MIB;
const CHECKS = {
  ext4: ['e2fsck', '-f', '-n'],
  xfs: ['xfs_repair', '-n', '-f'],
  btrfs: ['btrfs', 'check', '--readonly', '--force'],
} as const satisfies Record<FsType, readonly [string, ...string[]]>;

/** ext4 grows for those who have CAP_SYS_RESOURCE, which a container's root may lack. */
const NO_RESOURCE = hasCapability('/proc', 'SYS_RESOURCE') ? false : 'CAP_SYS_RESOURCE is missing here';

const bytesAt = (path: string): number => {
  const { blocks, bsize } = statfsSync(path);
  return blocks * bsize;
};
const run = (tool: string, ...args: readonly string[]) => execFileSync(tool, args, { stdio: 'pipe' });

for (const fsType of FS_TYPES)
  describe(fsType, { skip: fsType === 'ext4' && NO_RESOURCE }, () => {
    test('the image, its loop device and its file system grow under a file that is being written', () =>
      withBench(async ({ pool, mounter, spec, attach }) => {
        const image = file(pool.clone(fsType, 'volume.img'));
        const at = spec('grown');
        await attach(image, at);
        const before = bytesAt(at.path);
        const writer = openSync(join(at.path, 'root'), 'r+');
        writeSync(writer, 'before\n');

        assert.equal(await mounter.enlarge(image, LARGER), LARGER);
        assert.equal(bytesAt(at.path), before, 'the file system does not know of it yet');
        assert.deepEqual(await mounter.grow(at.path, fsType), { sizeBytes: LARGER, changed: true });

        const after = bytesAt(at.path);
        assert.ok(after > LARGER * 0.85 && after <= LARGER, `${before} -> ${after}`);
        writeSync(writer, 'after\n');
        closeSync(writer);
        await mounter.unmount(at.path, { lazy: false });
        await mounter.released(image, { timeoutMs: 2000 });
        const [tool, ...args] = CHECKS[fsType];
        run(tool, ...args, image.path);
      }));

    test('growing twice is growing once, and a size that is smaller changes nothing', () =>
      withBench(async ({ pool, mounter, spec, attach }) => {
        const image = file(pool.clone(fsType, 'volume.img'));
        const at = spec('twice');
        await attach(image, at);
        await mounter.enlarge(image, LARGER);
        await mounter.grow(at.path, fsType);
        const grown = bytesAt(at.path);

        assert.equal(await mounter.enlarge(image, MIB), LARGER);
        assert.deepEqual(await mounter.grow(at.path, fsType), { sizeBytes: LARGER, changed: false });

        assert.equal(statSync(image.path).size, LARGER);
        assert.equal(bytesAt(at.path), grown);
        assert.equal(await mounter.sizeOf(image), LARGER);
        await mounter.unmount(at.path, { lazy: false });
        await mounter.released(image, { timeoutMs: 2000 });
      }));

    test('what is mounted read-only does not grow, and says so', () =>
      withBench(async ({ pool, mounter, spec, attach }) => {
        const image = file(pool.clone(fsType, 'volume.img'));
        truncateSync(image.path, LARGER);
        const at = spec('read-only', { readOnly: true });
        await attach(image, at);

        await assert.rejects(mounter.grow(at.path, fsType), (error: unknown) => isError(error, 'SV_GROW'));

        await mounter.unmount(at.path, { lazy: false });
        await mounter.released(image, { timeoutMs: 2000 });
      }));
  });

/** What an ext4 was made with decides how far it grows: it does, or the kernel's words say why not. */
const EXT4: readonly { name: string; args: readonly string[]; sizeBytes: number; refused?: RegExp }[] = [
  { name: 'without room reserved for more descriptors', args: ['-O', '^resize_inode'], sizeBytes: LARGER },
  { name: 'beyond what is reserved', args: ['-E', 'resize=100M'], sizeBytes: 64 * 1024 * MIB },
  { name: 'with meta_bg', args: ['-O', 'meta_bg,^resize_inode'], sizeBytes: LARGER },
  { name: 'without extents, as ext3', args: ['-O', '^extents,^flex_bg,^64bit,^metadata_csum'], sizeBytes: LARGER },
  { name: 'with clusters (bigalloc)', args: ['-O', 'bigalloc'], sizeBytes: LARGER },
  {
    name: 'with two superblocks (sparse_super2)',
    args: ['-O', 'sparse_super2'],
    sizeBytes: LARGER,
    refused: /sparse_super2/,
  },
];
for (const { name, args, sizeBytes, refused } of EXT4)
  test(`an ext4 ${name} ${refused ? 'is refused with the kernel’s words' : 'grows'}`, { skip: NO_RESOURCE }, t =>
    withBench(async ({ pool, mounter, spec, attach }) => {
      const path = join(pool.dir, 'odd.img');
      writeFileSync(path, '');
      truncateSync(path, 64 * MIB);
      run('mke2fs', '-q', '-F', '-t', 'ext4', ...args, path);
      const at = spec('odd');
      await attach(file(path), at);
      await mounter.enlarge(file(path), sizeBytes);

      const error = await mounter.grow(at.path, 'ext4').then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      const grown = bytesAt(at.path);
      await mounter.unmount(at.path, { lazy: false });
      await mounter.released(file(path), { timeoutMs: 2000 });

      if (refused) assert.ok(isError(error, 'SV_GROW') && refused.test(error.message), String(error));
      else assert.equal(error, undefined);
      t.diagnostic(`${grown} bytes; ${error}`);
      if (!refused) assert.ok(grown > sizeBytes * 0.85, `${grown}`);
      run('e2fsck', '-f', '-n', path);
    }),
  );

test('an ext4 that cannot be grown for want of a capability says which', { skip: !NO_RESOURCE }, () =>
  withBench(async ({ pool, mounter, spec, attach }) => {
    const image = file(pool.clone('ext4', 'volume.img'));
    const at = spec('refused');
    await attach(image, at);
    await mounter.grow(at.path, 'ext4');
    await mounter.enlarge(image, LARGER);

    await assert.rejects(mounter.grow(at.path, 'ext4'), (error: unknown) => isError(error, 'SV_HOST'));

    await mounter.unmount(at.path, { lazy: false });
    await mounter.released(image, { timeoutMs: 2000 });
  }),
);
