import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isError } from '../../../src/errors.ts';
import { allocateRange, type TakenRange } from '../../../src/idmap/allocate.ts';
import { HIGHEST_ID, LOWEST_HOST_ID } from '../../../src/idmap/idmap.ts';
import { covers, overlaps } from '../../../src/idmap/range.ts';

const same = (...ranges: { start: number; count: number }[]) => ({ uid: ranges, gid: ranges });
const taken = (owner: string, start: number, count: number): TakenRange[] =>
  (['uid', 'gid'] as const).map(kind => ({ kind, start, count, owner }));
const pool = same({ start: 100000, count: 10000001 });

test('the first range has its low 16 bits zero, and the next one follows it', () => {
  const first = allocateRange({ want: 65536, pool, used: [] });
  assert.deepEqual(first, { uid: { start: 131072, count: 65536 }, gid: { start: 131072, count: 65536 } });

  const second = allocateRange({ want: 65536, pool, used: taken('c1', 131072, 65536) });
  assert.equal(second.uid.start, 196608);
});

test('a range in use by uid alone is not given out for gids either', () => {
  const used = [{ kind: 'uid' as const, start: 131072, count: 1, owner: 'c1' }];
  assert.equal(allocateRange({ want: 65536, pool, used }).gid.start, 196608);
});

test('one id in use in the middle is enough', () => {
  assert.equal(allocateRange({ want: 65536, pool, used: taken('c1', 131072 + 40000, 1) }).uid.start, 196608);
});

test('a pool without room for an aligned range gives an unaligned one', () => {
  assert.equal(allocateRange({ want: 65536, pool: same({ start: 100000, count: 65536 }), used: [] }).uid.start, 100000);
});

test('more or fewer ids than usual are given when asked for', () => {
  assert.deepEqual(allocateRange({ want: 1, pool, used: [] }).uid, { start: 131072, count: 1 });
  assert.deepEqual(allocateRange({ want: 1000000, pool, used: taken('c1', 131072, 1) }).uid, {
    start: 196608,
    count: 1000000,
  });
});

test('the search begins at the hint and comes round', () => {
  assert.equal(allocateRange({ want: 65536, pool, used: [], hint: 6553600 }).uid.start, 6553600);
  assert.equal(allocateRange({ want: 65536, pool, used: [], hint: 6553601 }).uid.start, 6619136);
  assert.equal(allocateRange({ want: 65536, pool, used: [], hint: 4294967295 }).uid.start, 131072);
});

test('host ids below 65536 are never given out, whatever the pool says', () => {
  const { uid } = allocateRange({ want: 10, pool: same({ start: 0, count: 70000 }), used: [] });
  assert.equal(uid.start, 65536);
});

test('no range wraps, or ends at 4294967295', () => {
  const top = same({ start: 4294901760, count: 65536 });
  assert.throws(
    () => allocateRange({ want: 65536, pool: top, used: [] }),
    error => isError(error, 'SV_RANGE_EXHAUSTED'),
  );
  assert.deepEqual(allocateRange({ want: 65535, pool: top, used: [] }).uid, { start: 4294901760, count: 65535 });
  assert.throws(
    () => allocateRange({ want: 65536, pool: same({ start: 4294967290, count: 4294967295 }), used: [] }),
    error => isError(error, 'SV_RANGE_EXHAUSTED'),
  );
});

test('ids from 2^31 on are given out as they are', () => {
  const { uid } = allocateRange({ want: 65536, pool: same({ start: 2147483648, count: 65536 }), used: [] });
  assert.deepEqual(uid, { start: 2147483648, count: 65536 });
});

test('a pool whose uids and gids differ gives the range that both have', () => {
  const uneven = { uid: [{ start: 100000, count: 1000000 }], gid: [{ start: 500000, count: 1000000 }] };
  assert.deepEqual(allocateRange({ want: 65536, pool: uneven, used: [] }).uid.start, 524288);
});

test('uids and gids begin at different ids only where that is allowed', () => {
  const apart = { uid: [{ start: 131072, count: 65536 }], gid: [{ start: 524288, count: 65536 }] };
  assert.throws(
    () => allocateRange({ want: 65536, pool: apart, used: [] }),
    error =>
      isError(error, 'SV_RANGE_EXHAUSTED') && /uids are free in 131072-196607 and gids in 524288-/.test(error.message),
  );
  assert.deepEqual(allocateRange({ want: 65536, pool: apart, used: [], mayDiffer: true }), {
    uid: { start: 131072, count: 65536 },
    gid: { start: 524288, count: 65536 },
  });
});

test('a pool that is used up says how much is in use, by whom, and what to do', () => {
  const small = same({ start: 131072, count: 4 * 65536 });
  const used = [
    ...taken('lxd:c1', 131072, 65536),
    ...taken('lxd:c2', 196608, 65536),
    ...taken('lxc:a', 262144, 100),
    ...taken('pid 7', 327680, 1),
    ...taken('elsewhere', 900000, 9),
  ];
  assert.throws(
    () => allocateRange({ want: 65536, pool: small, used }),
    error =>
      isError(error, 'SV_RANGE_EXHAUSTED') &&
      error.message ===
        'Cannot allocate 65536 uids: 131173 of 262144 ids of the pool are in use (4 owners, most by lxd:c1 65536, lxd:c2 65536, lxc:a 100), the largest free range has 65535' &&
      /subuid/.test(error.remedy ?? ''),
  );
});

test('a pool that is empty says which file to fill', () => {
  assert.throws(
    () => allocateRange({ want: 65536, pool: { uid: pool.uid, gid: [] }, used: [] }),
    error =>
      isError(error, 'SV_RANGE_EXHAUSTED') &&
      /gids: the pool is empty/.test(error.message) &&
      /\/etc\/subgid/.test(error.remedy ?? ''),
  );
});

test('a start that is asked for is given, or refused with the reason', () => {
  const used = taken('lxd:c1', 200000, 65536);
  const ask = (start: number) => () => allocateRange({ want: 65536, pool, used, start });
  assert.equal(ask(265536)().gid.start, 265536);
  for (const start of [200000, 265535, 134465])
    assert.throws(
      ask(start),
      error => isError(error, 'SV_RANGE_TAKEN') && /lxd:c1 uses 200000-265535/.test(error.message),
    );
  for (const start of [0, 99999, 10100000, 4294967295, 4294901760, -1, 131072.5, Number.NaN])
    assert.throws(ask(start), error => isError(error, 'SV_IDMAP_INVALID') && error.field === 'start');
});

test('a number of ids that is none is refused', () => {
  for (const want of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])
    assert.throws(
      () => allocateRange({ want, pool, used: [] }),
      error => isError(error, 'SV_IDMAP_INVALID') && error.field === 'count',
    );
});

const start = fc.oneof(
  fc.integer({ min: 0, max: 400000 }),
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.integer({ min: HIGHEST_ID - 100000, max: HIGHEST_ID }),
);
const count = fc.oneof(fc.integer({ min: 1, max: 200000 }), fc.integer({ min: 1, max: 0xffffffff }));
const range = fc.record({ start, count });
const ranges = fc.array(range, { minLength: 1, maxLength: 4 });
const used = fc.array(
  fc.record({
    kind: fc.constantFrom('uid' as const, 'gid' as const),
    start,
    count: fc.integer({ min: 1, max: 100000 }),
    owner: fc.constantFrom('a', 'b'),
  }),
  { maxLength: 20 },
);

test('no allocation overlaps a used range, leaves the pool, wraps, or has a low or impossible id', () => {
  fc.assert(
    fc.property(
      fc.record({
        want: fc.integer({ min: 1, max: 150000 }),
        pool: fc.record({ uid: ranges, gid: ranges }),
        used,
        hint: start,
        mayDiffer: fc.boolean(),
      }),
      request => {
        let given: ReturnType<typeof allocateRange>;
        try {
          given = allocateRange(request);
        } catch (error) {
          assert.ok(isError(error, 'SV_RANGE_EXHAUSTED'), String(error));
          return;
        }
        for (const kind of ['uid', 'gid'] as const) {
          const got = given[kind];
          assert.equal(got.count, request.want);
          assert.ok(got.start >= LOWEST_HOST_ID && got.start + got.count - 1 <= HIGHEST_ID);
          assert.ok(covers(request.pool[kind], got));
          assert.ok(request.used.every(u => u.kind !== kind || !overlaps(u, got)));
        }
        if (!request.mayDiffer) assert.equal(given.uid.start, given.gid.start);
        assert.deepEqual(allocateRange(request), given);
      },
    ),
    { numRuns: 1000 },
  );
});

test('a pool is given out to the last whole range, none twice', () => {
  const all: TakenRange[] = [];
  const room = same({ start: 100000, count: 20 * 65536 });
  const starts = new Set<number>();
  for (let i = 0; i < 19; i++) {
    const { uid, gid } = allocateRange({ want: 65536, pool: room, used: all });
    all.push({ kind: 'uid', owner: `c${i}`, ...uid }, { kind: 'gid', owner: `c${i}`, ...gid });
    starts.add(uid.start);
  }
  assert.equal(starts.size, 19);
  assert.throws(
    () => allocateRange({ want: 65536, pool: room, used: all }),
    error => isError(error, 'SV_RANGE_EXHAUSTED') && /19 owners/.test(error.message),
  );
});
