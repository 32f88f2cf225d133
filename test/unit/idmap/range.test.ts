import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { IdRange } from '../../../src/idmap/idmap.ts';
import { intersect, subtract, union } from '../../../src/idmap/range.ts';

const range = fc.record({ start: fc.nat(40), count: fc.nat(12) });
const ids = (ranges: readonly IdRange[]) =>
  new Set(ranges.flatMap(r => Array.from({ length: r.count }, (_, i) => r.start + i)));

test('union, intersection and difference of ranges are those of their ids', () => {
  fc.assert(
    fc.property(fc.array(range), fc.array(range), (a, b) => {
      assert.deepEqual(ids(union([...a, ...b])), new Set([...ids([...a, ...b])].toSorted((x, y) => x - y)));
      assert.deepEqual(
        [...ids(intersect(a, b))],
        [...ids(a).intersection(ids(b))].toSorted((x, y) => x - y),
      );
      assert.deepEqual(
        [...ids(subtract(a, b))],
        [...ids(a).difference(ids(b))].toSorted((x, y) => x - y),
      );
    }),
  );
});
