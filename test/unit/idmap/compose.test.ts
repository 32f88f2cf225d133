import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isError } from '../../../src/errors.ts';
import {
  compose,
  hostRanges,
  invert,
  mapForInstance,
  merge,
  sameIdmap,
  shownAs,
  split,
  withoutLowHostIds,
} from '../../../src/idmap/compose.ts';
import { HIGHEST_ID } from '../../../src/idmap/idmap.ts';
import { both, edges, extent, soundMap } from './arbitraries.ts';

test('an image with ids from 100000 on, in a container at 200000, shows as 200000-265535', () => {
  const composed = compose(both(100000, 0, 65536), both(0, 200000, 65536));

  assert.deepEqual(composed, both(100000, 200000, 65536));
  assert.equal(shownAs(composed, 'uid', 100005), 200005);
  assert.equal(shownAs(composed, 'uid', 0), undefined);
});

test('the order of the two maps matters', () => {
  assert.deepEqual(compose(both(1000, 0, 1), both(0, 300000, 10)), both(1000, 300000, 1));
  assert.deepEqual(compose(both(0, 300000, 10), both(1000, 0, 1)), []);
});

test('ids that only one of the maps has are left out', () => {
  const composed = compose(
    [extent('uid', 10, 100, 10)],
    [extent('uid', 95, 1000, 7), extent('uid', 105, 2000, 50), extent('gid', 0, 0, 500)],
  );

  assert.deepEqual(composed, [extent('uid', 10, 1005, 2), extent('uid', 15, 2000, 5)]);
});

test('an instance’s map follows its container, holes and shared ids included', () => {
  const container = [...both(0, 200000, 1000), ...both(1000, 1000, 1), ...both(1001, 201001, 64535)];

  const map = mapForInstance(100000, container);

  assert.deepEqual(
    map,
    [...both(100000, 200000, 1000), ...both(101000, 1000, 1), ...both(101001, 201001, 64535)].toSorted(byKind),
  );
  assert.deepEqual(mapForInstance(0, container), container.toSorted(byKind));
  assert.deepEqual(
    withoutLowHostIds(map),
    [...both(100000, 200000, 1000), ...both(101001, 201001, 64535)].toSorted(byKind),
  );
});

test('an instance’s map ends at the highest id that a disk can hold', () => {
  assert.deepEqual(mapForInstance(HIGHEST_ID - 9, both(0, 200000, 65536)), both(HIGHEST_ID - 9, 200000, 10));
});

test('what reaches below host id 65536 is cut there', () => {
  assert.deepEqual(withoutLowHostIds([extent('uid', 5, 65530, 10)]), [extent('uid', 11, 65536, 4)]);
});

test('a composed map shows each id as the second map shows what the first one shows', () => {
  fc.assert(
    fc.property(soundMap(0), soundMap(), (first, second) => {
      const composed = compose(first, second);
      for (const { kind, id } of [...edges(first), ...edges(composed)]) {
        const middle = shownAs(first, kind, id);
        assert.equal(shownAs(composed, kind, id), middle === undefined ? undefined : shownAs(second, kind, middle));
      }
    }),
  );
});

test('a map and its inverse are the identity on the ids that are mapped', () => {
  fc.assert(
    fc.property(soundMap(0), map => {
      const back = compose(map, invert(map));
      assert.ok(sameIdmap(back, compose(map, invert(map))));
      for (const { kind, id } of edges(map))
        assert.equal(shownAs(back, kind, id), shownAs(map, kind, id) === undefined ? undefined : id);
      assert.deepEqual(invert(invert(map)), map);
    }),
  );
});

test('composing two maps that fit loses no id: invert(compose(a, b)) is compose(invert(b), invert(a))', () => {
  fc.assert(
    fc.property(soundMap(0), soundMap(), (a, b) => {
      assert.ok(sameIdmap(invert(compose(a, b)), compose(invert(b), invert(a))));
    }),
  );
});

test('splitting changes nothing of what is shown, and merging undoes it', () => {
  fc.assert(
    fc.property(soundMap(0), fc.nat(), (map, pick) => {
      const chosen = map[pick % map.length];
      assert.ok(chosen);
      const boundary = chosen.fsId + (pick % chosen.count);

      const parts = split(map, boundary);

      assert.ok(parts.every(e => e.fsId >= boundary || e.fsId + e.count <= boundary));
      for (const { kind, id } of edges(parts)) assert.equal(shownAs(parts, kind, id), shownAs(map, kind, id));
      assert.deepEqual(merge(parts), merge(map));
    }),
  );
});

test('only extents that touch on both sides are merged', () => {
  assert.deepEqual(merge([extent('uid', 5, 105, 5), extent('uid', 0, 100, 5)]), [extent('uid', 0, 100, 10)]);
  const apart = [extent('uid', 0, 100, 5), extent('uid', 5, 106, 5)];
  assert.deepEqual(merge(apart), apart);
});

test('the host ids of a map are told by kind', () => {
  assert.deepEqual(hostRanges([extent('uid', 0, 300, 10), extent('uid', 50, 310, 5), extent('gid', 0, 70, 1)]), {
    uid: [{ start: 300, count: 15 }],
    gid: [{ start: 70, count: 1 }],
  });
});

test('maps that overlap are not composed', () => {
  const twice = [extent('uid', 0, 100, 10), extent('uid', 5, 300, 10)];
  for (const [a, b] of [
    [twice, both(0, 100, 10)],
    [both(0, 100, 10), twice],
  ] as const)
    assert.throws(
      () => compose(a, b),
      error => isError(error, 'SV_IDMAP_INVALID'),
    );
});

function byKind(a: { kind: string }, b: { kind: string }): number {
  return a.kind === b.kind ? 0 : a.kind === 'uid' ? -1 : 1;
}
