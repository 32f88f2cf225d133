import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseMountinfo, readMountinfo, topmostAt } from '../../../src/mount/mountinfo.ts';

const LINE = '36 35 98:0 /mnt1 /mnt2 rw,noatime,idmapped master:1 shared:2 - ext3 /dev/root rw,errors=continue';

test('a line is read whatever number of optional fields it has', () => {
  const expected = {
    mountId: 36,
    parentId: 35,
    devno: '98:0',
    root: '/mnt1',
    point: '/mnt2',
    options: ['rw', 'noatime', 'idmapped'],
    fsType: 'ext3',
    source: '/dev/root',
    superOptions: ['rw', 'errors=continue'],
  };
  assert.deepEqual(parseMountinfo(`${LINE}\n`), [expected]);
  assert.deepEqual(parseMountinfo(LINE.replace(' master:1 shared:2', '')), [expected]);
});

test('spaces, tabs, newlines, backslashes and number signs in paths come out as they are', () => {
  const [mount] = parseMountinfo('1 2 0:3 / /a\\040b\\011c\\012d\\134e\\043f rw - tmpfs none\\0401 rw');
  assert.equal(mount?.point, '/a b\tc\nd\\e#f');
  assert.equal(mount?.source, 'none 1');
  assert.equal(parseMountinfo('1 2 0:3 / /a\\134040b rw - tmpfs none rw')[0]?.point, '/a\\040b');
});

test('lines that are cut or empty are left out', () => {
  assert.deepEqual(parseMountinfo(''), []);
  for (let length = 0; length < LINE.indexOf('/dev/root'); length++)
    assert.deepEqual(parseMountinfo(LINE.slice(0, length)), []);
});

test('of several mounts at one point the last in the table is on top', () => {
  const mounts = parseMountinfo(
    '1 0 0:1 / /a rw - tmpfs x rw\n2 1 0:2 / /a rw - tmpfs y rw\n3 1 0:3 / /ab rw - tmpfs z rw\n',
  );
  assert.equal(topmostAt(mounts, '/a')?.mountId, 2);
  assert.equal(topmostAt(mounts, '/'), undefined);
});

test('the table of any process is read below the given root', () => {
  const procRoot = mkdtempSync(join(tmpdir(), 'shiftvol-proc-'));
  try {
    mkdirSync(join(procRoot, '7'));
    writeFileSync(join(procRoot, '7/mountinfo'), LINE);
    assert.equal(readMountinfo(procRoot, 7).length, 1);
  } finally {
    rmSync(procRoot, { recursive: true });
  }
});
