import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ImageRef } from '../../../src/engine/ports.ts';
import { isBlank } from '../../../src/storage/connect/blank.ts';
import { volumeCopier } from '../../../src/storage/volume-copier.ts';

const MIB = 2 ** 20;
let dir: string;
before(() => {
  dir = mkdtempSync(join(tmpdir(), 'shiftvol-copier-'));
});
after(() => rmSync(dir, { recursive: true }));

function blank(name: string, sizeBytes: number): string {
  const path = join(dir, name);
  writeFileSync(path, '');
  truncateSync(path, sizeBytes);
  return path;
}

function fileSystem(name: string, sizeBytes: number): string {
  const path = blank(name, sizeBytes);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', import.meta.dirname, path]);
  return path;
}

function device(path: string): Disposable & { readonly path: string } {
  const loop = execFileSync('losetup', ['--find', '--show', path], { encoding: 'utf8' }).trim();
  return { path: loop, [Symbol.dispose]: () => void execFileSync('losetup', ['-d', loop]) };
}

async function copyAll(from: ImageRef, to: ImageRef, sizes: { sizeBytes: number; toBytes: number }): Promise<void> {
  const { complete } = await volumeCopier.copy(from, to, sizes);
  assert.equal(await isBlank(to.path, undefined), true, 'until it is complete');
  await complete();
}

const file = (path: string): ImageRef => ({ kind: 'file', path });

test('a file is copied without its holes, over what an earlier copy has left, and a larger target stays so', async () => {
  const sizeBytes = 32 * MIB + 4096;
  const [from, to] = [fileSystem('from', sizeBytes), blank('to', 40 * MIB)];
  // Of a copy that was cut: data in the middle, where the source has none.
  const left = Buffer.alloc(40 * MIB);
  left.fill(0x5a, 10 * MIB, 12 * MIB);
  writeFileSync(to, left);
  assert.equal(await isBlank(to, undefined), true);

  await copyAll(file(from), file(to), { sizeBytes, toBytes: 40 * MIB });

  const copy = readFileSync(to);
  assert.equal(copy.length, 40 * MIB);
  assert.ok(copy.subarray(0, sizeBytes).equals(readFileSync(from)));
  assert.ok((await volumeCopier.bytesToRead(file(from), sizeBytes)) < sizeBytes);
  execFileSync('e2fsck', ['-fn', to]);
  const thin = blank('thin', sizeBytes);
  await copyAll(file(from), file(thin), { sizeBytes, toBytes: sizeBytes });
  assert.ok(statSync(thin).blocks * 512 < sizeBytes / 2);
});

test('what was cut off is blank, so that it is neither mounted nor in the way of the next', async () => {
  const sizeBytes = 16 * MIB;
  const [from, to] = [fileSystem('whole', sizeBytes), blank('cut', sizeBytes)];
  const cut = new AbortController();
  let reads = 0;
  const signal: AbortSignal = new Proxy(cut.signal, {
    get: (target, key) => {
      if (key === 'throwIfAborted' && ++reads > 12) cut.abort();
      const value: unknown = Reflect.get(target, key);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });

  await assert.rejects(volumeCopier.copy(file(from), file(to), { sizeBytes, toBytes: sizeBytes, signal }));

  assert.equal(await isBlank(to, undefined), true);
  await copyAll(file(from), file(to), { sizeBytes, toBytes: sizeBytes });
  assert.ok(readFileSync(to).equals(readFileSync(from)));
});

test('a device is read past the kernel’s cache of it: what a mounted file system wrote since is in the copy', async () => {
  const sizeBytes = 64 * MIB;
  using source = device(fileSystem('disk', sizeBytes));
  using target = device(blank('other', sizeBytes));
  const mountPoint = join(dir, 'mnt');
  execFileSync('mkdir', [mountPoint]);
  execFileSync('mount', [source.path, mountPoint]);
  try {
    writeFileSync(join(mountPoint, 'data'), Buffer.alloc(8 * MIB, 1), { flush: true });
    readFileSync(source.path);
    writeFileSync(join(mountPoint, 'data'), Buffer.alloc(8 * MIB, 2), { flush: true, flag: 'r+' });
    execFileSync('fsfreeze', ['-f', mountPoint]);
    try {
      const from = { kind: 'device', path: source.path } as const;
      const to = { kind: 'device', path: target.path } as const;
      await copyAll(from, to, { sizeBytes, toBytes: sizeBytes });
      await assert.rejects(volumeCopier.copy(to, from, { sizeBytes, toBytes: sizeBytes }), /EBUSY/);
    } finally {
      execFileSync('fsfreeze', ['-u', mountPoint]);
    }
  } finally {
    execFileSync('umount', [mountPoint]);
  }
  execFileSync('mount', ['-o', 'ro', target.path, mountPoint]);
  try {
    assert.ok(readFileSync(join(mountPoint, 'data')).equals(Buffer.alloc(8 * MIB, 2)));
  } finally {
    execFileSync('umount', [mountPoint]);
  }
});
