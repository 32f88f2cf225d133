import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { errnoName, errnoNumber, isErrno, KernelError } from '../../../src/kernel/errno.ts';
import { open } from '../../../src/kernel/fd.ts';
import { isOnlyOpener, tryLock } from '../../../src/kernel/file-lock.ts';
import { descriptorArgument, pathArgument } from '../../../src/kernel/libc.ts';
import { fstatx, statx } from '../../../src/kernel/statx.ts';

test('an errno has its name, and a name its errno', () => {
  assert.equal(errnoName(16), 'EBUSY');
  assert.equal(errnoNumber('EUCLEAN'), 117);
  assert.equal(errnoName(9999), 'errno 9999');
  assert.throws(() => errnoNumber('ENOSUCH'), { code: 'SV_INTERNAL' });
  assert.ok(isErrno(new KernelError('umount2', 16, '/x'), 'EINVAL', 'EBUSY'));
  assert.ok(!isErrno(new Error('EBUSY'), 'EBUSY'));
});

test('what koffi would cut short without a word is refused', () => {
  for (const fd of [-1, 1.5, Number.NaN, 2 ** 32 + 3])
    assert.throws(() => descriptorArgument(fd), { errnoName: 'EBADF' });
  assert.throws(() => pathArgument('/a\0b'), { errnoName: 'EINVAL' });
  assert.throws(() => statx('/proc\0/none'), { errnoName: 'EINVAL' });
});

test('statx tells a file from the root of a mount, and does not follow a symlink', () => {
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-statx-'));
  try {
    writeFileSync(join(dir, 'file'), '12345');
    symlinkSync('file', join(dir, 'link'));
    const file = statx(join(dir, 'file'));
    using fd = open(join(dir, 'file'), 'r');

    assert.equal(file.sizeBytes, 5n);
    assert.equal(file.mountRoot, false);
    assert.deepEqual(fstatx(fd.fd), file);
    assert.equal(statx(join(dir, 'link')).mode & 0o170000, 0o120000);
    assert.equal(statx('/proc').mountRoot, true);
    assert.equal(statx('/dev/null').rdevno, '1:3');
    assert.throws(() => statx(join(dir, 'none')), { errnoName: 'ENOENT', call: 'statx' });
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('a lock belongs to one open file description; an open for writing is seen', () => {
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-lock-'));
  try {
    const path = join(dir, 'file');
    using first = open(path, 'w+');
    assert.equal(isOnlyOpener(first.fd), true);
    assert.equal(tryLock(first.fd, 'exclusive', path), true);
    {
      using second = open(path, 'r+');
      assert.equal(tryLock(second.fd, 'shared', path), false);
      assert.equal(isOnlyOpener(first.fd), false);
    }
    assert.equal(isOnlyOpener(first.fd), true);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
