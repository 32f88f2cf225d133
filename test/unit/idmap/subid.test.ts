import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSubid, subidOverlaps, subidRanges } from '../../../src/idmap/subid.ts';

const path = '/etc/subuid';

test('an owner has its lines by name and by number, duplicates and neighbours merged', () => {
  const file = parseSubid(
    'root:100000:65536\nshiftvol:300000:10\n997:300005:20\nshiftvol:300000:10\nshiftvol:300025:5\n997:900000:1\n',
    path,
  );

  assert.deepEqual(subidRanges(file, { name: 'shiftvol', uid: 997 }), [
    { start: 300000, count: 30 },
    { start: 900000, count: 1 },
  ]);
  assert.deepEqual(subidRanges(file, { name: 'shiftvol' }), [
    { start: 300000, count: 10 },
    { start: 300025, count: 5 },
  ]);
  assert.deepEqual(subidRanges(file, { name: 'nobody' }), []);
  assert.deepEqual(file.problems, []);
});

test('a bad line is reported and the others count', () => {
  const file = parseSubid(
    '# comment\n\nroot:100000\nroot:x:1\nroot:0x10:1\nroot:-1:1\n:5:5\nroot:1:0\nroot: 1:5\nroot:200000:5\n',
    path,
  );

  assert.deepEqual(subidRanges(file, { name: 'root' }), [{ start: 200000, count: 5 }]);
  assert.equal(file.problems.length, 7);
  assert.equal(file.problems[0], '/etc/subuid line 3: "root:100000" is not OWNER:START:COUNT in decimal numbers');
});

test('a line that goes past the highest id counts up to there', () => {
  const file = parseSubid('root:4294901760:65536\nroot:4294967296:5\n', path);

  assert.deepEqual(subidRanges(file, { name: 'root' }), [{ start: 4294901760, count: 65535 }]);
  assert.equal(file.problems.length, 2);
});

test('other owners of the same ids are told', () => {
  const file = parseSubid('_lxd:100000:1000\nroot:100000:1000\nalice:100500:1000\nbob:500000:5\n', path);

  assert.deepEqual(subidOverlaps(file, { name: 'root' }, path), [
    '/etc/subuid: _lxd may use 100000-100999 too',
    '/etc/subuid: alice may use 100500-100999 too',
  ]);
});
