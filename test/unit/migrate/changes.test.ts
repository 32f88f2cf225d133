import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { changesBetween, joined } from '../../../src/migrate/changes.ts';

const extent = (start: number, count: number, physical: number, more: object = {}) => ({
  start,
  count,
  physical,
  unwritten: false,
  vague: false,
  ...more,
});

test('what lies at the same place is no change, wherever its extents are cut', () => {
  assert.deepEqual(changesBetween([extent(0, 100, 1000)], [extent(0, 40, 1000), extent(40, 60, 1040)], 100), []);
});

test('other places are changes, holes that were data are zeros, and nothing beyond the size counts', () => {
  const before = [extent(0, 100, 1000), extent(200, 100, 5000)];
  const now = [
    extent(0, 50, 1000),
    extent(50, 20, 9000),
    extent(200, 10, 5000),
    extent(210, 90, 5011),
    extent(300, 50, 7000),
  ];

  assert.deepEqual(changesBetween(before, now, 320), [
    { kind: 'data', start: 50, count: 20 },
    { kind: 'zeros', start: 70, count: 30 },
    { kind: 'data', start: 210, count: 110 },
  ]);
});

test('what is reserved and never written is a hole', () => {
  assert.deepEqual(changesBetween([], [extent(0, 10, 7, { unwritten: true })], 10), []);
  assert.deepEqual(changesBetween([extent(0, 10, 7)], [extent(0, 10, 7, { unwritten: true })], 10), [
    { kind: 'zeros', start: 0, count: 10 },
  ]);
});

test('where the kernel does not say the place, it is a change', () => {
  const vague = [extent(0, 10, 7, { vague: true })];
  assert.deepEqual(changesBetween(vague, vague, 10), [{ kind: 'data', start: 0, count: 10 }]);
});

test('the older file with the changes put into it is the younger one', () => {
  const SIZE = 64;
  // A file as its bytes: 0 a hole, else the place of its block.
  const file = fc.array(fc.integer({ min: 0, max: 5 }), { minLength: SIZE, maxLength: SIZE });
  const extents = (bytes: readonly number[]) => bytes.flatMap((b, i) => (b === 0 ? [] : [extent(i, 1, b * 1000 + i)]));
  fc.assert(
    fc.property(file, file, fc.integer({ min: 1, max: 8 }), (before, now, gap) => {
      const got = [...before];
      for (const { kind, start, count } of joined(changesBetween(extents(before), extents(now), SIZE), gap))
        for (let at = start; at < start + count; at++) got[at] = kind === 'zeros' ? 0 : (now[at] ?? 0);
      assert.deepEqual(got, now);
    }),
  );
});
