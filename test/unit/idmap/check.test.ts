import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isError } from '../../../src/errors.ts';
import { checkIdmap, requireIdmap } from '../../../src/idmap/check.ts';
import { hostRanges } from '../../../src/idmap/compose.ts';
import { type Extent, HIGHEST_ID, type Idmap, LOWEST_HOST_ID } from '../../../src/idmap/idmap.ts';
import { overlaps } from '../../../src/idmap/range.ts';
import { anyMap, both, extent, soundMap } from './arbitraries.ts';

const range = [{ start: 200000, count: 65536 }];
const within = { uid: range, gid: range };
const errors = (map: Idmap, options = {}) => checkIdmap(map, options).filter(p => p.severity === 'error');

test('a container’s whole range passes', () => {
  assert.deepEqual(checkIdmap(both(0, 200000, 65536), { within }), []);
  requireIdmap(both(0, 200000, 65536), within);
  requireIdmap(both(100000, 200000, 65536), within);
});

/** Extents as JSON.parse would give them: numbers that no constructor has looked at. */
const raw = (kind: string, disk: number, host: number, count: number): Idmap =>
  JSON.parse(JSON.stringify([{ kind, fsId: disk, hostId: host, count }]));

const wrong: readonly [what: string, map: Idmap, field: string, text: RegExp][] = [
  ['an empty map', [], 'extents', /maps no ids/],
  ['a count of 0', [extent('uid', 0, 200000, 0)], 'extents[0].count', /Cannot map 0 uids/],
  ['a negative count', raw('uid', 0, 200000, -1), 'extents[0].count', /Cannot map -1 uids/],
  ['half an id', raw('uid', 0.5, 200000, 1), 'extents[0].fsId', /whole numbers/],
  ['a host id that is null', raw('uid', 0, Number.NaN, 1), 'extents[0].hostId', /whole numbers/],
  ['another kind', raw('both', 0, 200000, 1), 'extents[0].kind', /accepted are uid and gid/],
  ['host id 0', [extent('uid', 0, 0, 65536)], 'extents[0].hostId', /host id 0: host ids below 65536/],
  ['host id 65535', [extent('gid', 7, 65535, 1)], 'extents[0].hostId', /on-disk gid 7 to host id 65535/],
  [
    'an id past the highest on disk',
    [extent('uid', HIGHEST_ID, 200000, 2)],
    'extents[0].count',
    /on-disk uids 4294967294-4294967295: the highest/,
  ],
  [
    'an id past the highest on the host',
    [extent('uid', 0, 4294901760, 65536)],
    'extents[0].count',
    /host uids 4294901760-4294967295: the highest/,
  ],
  ['a sum that would wrap in 32 bits', [extent('uid', 0, 4294967290, 65536)], 'extents[0].count', /the highest/],
  [
    'an overlap on disk',
    [extent('uid', 0, 200000, 10), extent('uid', 9, 210000, 10)],
    'extents[1].fsId',
    /extents\[0\] has 0-9/,
  ],
  [
    'an overlap on the host',
    [extent('gid', 50, 200009, 10), extent('gid', 0, 200000, 10)],
    'extents[0].hostId',
    /host gids 200009-200018: extents\[1\] has 200000-200009/,
  ],
];

for (const [what, map, field, text] of wrong)
  test(`${what} is refused by its field`, () => {
    const [first] = errors(map);
    assert.equal(first?.field, field);
    assert.match(first?.text ?? '', text);
    assert.throws(
      () => requireIdmap(map, within),
      error => isError(error, 'SV_IDMAP_INVALID') && error.field === field,
    );
  });

test('an extent inside a wider one before it is seen past a third between them', () => {
  const map = [extent('uid', 0, 200000, 100), extent('uid', 10, 300000, 1), extent('uid', 50, 310000, 1)];
  assert.deepEqual(
    errors(map).map(p => p.field),
    ['extents[1].fsId', 'extents[2].fsId'],
  );
});

test('uids and gids may share ids', () => {
  assert.deepEqual(checkIdmap(both(0, 200000, 10)), []);
});

for (const [what, map] of [
  ['one id below', both(0, 199999, 10)],
  ['one id above', both(0, 200000, 65537)],
  ['another instance’s', both(0, 300000, 10)],
] as const)
  test(`host ids outside the instance’s range are refused: ${what}`, () => {
    assert.throws(
      () => requireIdmap(map, within),
      error =>
        isError(error, 'SV_IDMAP_INVALID') &&
        error.field === 'extents[0].hostId' &&
        /the instance owns 200000-265535/.test(error.message),
    );
    assert.equal(errors(map).length, 0);
  });

test('a range that the instance has for uids does not allow gids', () => {
  assert.throws(
    () => requireIdmap(both(0, 200000, 10), { uid: range, gid: [] }),
    error =>
      isError(error, 'SV_IDMAP_INVALID') && error.field === 'extents[1].hostId' && /owns no ids/.test(error.message),
  );
});

test('ranges of the instance that touch count as one', () => {
  const parts = [{ start: 265536, count: 10 }, ...range];
  requireIdmap(both(0, 265530, 12), { uid: parts, gid: parts });
});

test('340 extents of a kind pass, 341 are refused', () => {
  const many = (n: number) =>
    (['uid', 'gid'] as const).flatMap(kind => Array.from({ length: n }, (_, i) => extent(kind, i, 70000 + 2 * i, 1)));
  assert.deepEqual(errors(many(340)), []);
  assert.match(errors(many(341))[0]?.text ?? '', /Cannot map 341 uid extents: the kernel accepts 340/);
});

test('a map of fewer extents that does not fit in one write is refused', () => {
  const wide = Array.from({ length: 171 }, (_, i) => extent('gid', 1000000000 + 2 * i, 2000000000 + 2 * i, 1));
  assert.match(errors(wide)[0]?.text ?? '', /take 4104 bytes, the kernel accepts 4095/);
});

test('holes on disk are noticed, and do not forbid the map', () => {
  const map = [...both(0, 200000, 1000), ...both(1001, 201001, 10)];
  const problems = checkIdmap(map, { within });
  assert.deepEqual(
    problems.map(p => [p.severity, p.text, p.field]),
    [
      ['notice', 'On-disk uids 1000 are not mapped: they show as 65534 and cannot be made', 'extents[2].fsId'],
      ['notice', 'On-disk gids 1000 are not mapped: they show as 65534 and cannot be made', 'extents[3].fsId'],
    ],
  );
  requireIdmap(map, within);
});

test('half a map is a notice to a person and an error to a mount', () => {
  const half = [extent('uid', 0, 200000, 10)];
  assert.deepEqual(
    checkIdmap(half).map(p => p.severity),
    ['notice'],
  );
  assert.throws(
    () => requireIdmap(half, within),
    error => isError(error, 'SV_IDMAP_INVALID') && /No gid is mapped/.test(error.message),
  );
});

test('no map that is accepted shows anything as a low host id, or one id as two', () => {
  fc.assert(
    fc.property(fc.oneof(anyMap, soundMap(0), soundMap()), map => {
      if (errors(map).length > 0) return;
      for (const [i, a] of map.entries()) {
        assert.ok(a.hostId >= LOWEST_HOST_ID);
        assert.ok(a.count >= 1 && a.hostId + a.count - 1 <= HIGHEST_ID && a.fsId + a.count - 1 <= HIGHEST_ID);
        for (const b of map.slice(i + 1))
          if (a.kind === b.kind) assert.ok(!overlaps(onDisk(a), onDisk(b)) && !overlaps(onHost(a), onHost(b)));
      }
    }),
    { numRuns: 1000 },
  );
});

test('no map that a mount takes leaves the instance’s range', () => {
  const part = fc.record({
    start: fc.integer({ min: 60000, max: 400000 }),
    count: fc.integer({ min: 1, max: 300000 }),
  });
  fc.assert(
    fc.property(soundMap(0), fc.array(part), fc.array(part), (map, uid, gid) => {
      try {
        requireIdmap(map, { uid, gid });
      } catch {
        return;
      }
      for (const e of map)
        for (const id of [e.hostId, e.hostId + e.count - 1])
          assert.ok((e.kind === 'uid' ? uid : gid).some(r => r.start <= id && id < r.start + r.count));
    }),
  );
});

test('a sound map is taken within its own host ids', () => {
  fc.assert(
    fc.property(soundMap(), map => {
      requireIdmap(map, hostRanges(map));
    }),
  );
});

const onDisk = (e: Extent) => ({ start: e.fsId, count: e.count });
const onHost = (e: Extent) => ({ start: e.hostId, count: e.count });
