import fc from 'fast-check';
import { type Extent, HIGHEST_ID, type IdKind, type Idmap } from '../../../src/idmap/idmap.ts';
import { fsId, hostId } from '../../../src/idmap/ids.ts';

export function extent(kind: IdKind, disk: number, host: number, count: number): Extent {
  return { kind, fsId: fsId(disk), hostId: hostId(host), count };
}

/** `uid 1 2 3` as an extent; `both` as two. */
export function both(disk: number, host: number, count: number): Idmap {
  return [extent('uid', disk, host, count), extent('gid', disk, host, count)];
}

const piece = fc.record({
  count: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 200_000 })),
  fsGap: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 200_000 })),
  hostGap: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 200_000 })),
  rank: fc.nat(),
});

/** Extents of one kind that overlap on neither side; host ids from `lowest` on, in another order than the on-disk ids. */
function kindMap(kind: IdKind, lowest: number): fc.Arbitrary<Idmap> {
  return fc
    .record({
      pieces: fc.array(piece, { minLength: 1, maxLength: 8 }),
      fsStart: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: HIGHEST_ID - 4_000_000 })),
      hostStart: fc.oneof(fc.constant(lowest), fc.integer({ min: lowest, max: HIGHEST_ID - 4_000_000 })),
    })
    .map(({ pieces, fsStart, hostStart }) => {
      let next = fsStart;
      const onDisk = pieces.map(p => {
        const start = next + p.fsGap;
        next = start + p.count;
        return { ...p, start };
      });
      let nextHost = hostStart;
      return onDisk
        .toSorted((a, b) => a.rank - b.rank)
        .map(p => {
          const host = nextHost + p.hostGap;
          nextHost = host + p.count;
          return extent(kind, p.start, host, p.count);
        });
    });
}

/** A map of both kinds, sound on both sides. */
export function soundMap(lowest = 65536): fc.Arbitrary<Idmap> {
  return fc.tuple(kindMap('uid', lowest), kindMap('gid', lowest)).map(([uids, gids]) => [...uids, ...gids]);
}

/** One whose gids are mapped as its uids, entry for entry. */
export function evenMap(lowest = 65536): fc.Arbitrary<Idmap> {
  return kindMap('uid', lowest).map(uids => uids.flatMap(uid => [uid, { ...uid, kind: 'gid' as const }]));
}

/** Anything at all, most of it wrong. */
export const anyMap: fc.Arbitrary<Idmap> = fc.array(
  fc
    .record({
      kind: fc.constantFrom<IdKind>('uid', 'gid'),
      disk: id(),
      host: id(),
      count: fc.oneof(
        fc.integer({ min: 0, max: 5 }),
        fc.integer({ min: 0, max: 0xffffffff }),
        fc.constant(HIGHEST_ID + 1),
      ),
    })
    .map(({ kind, disk, host, count }) => extent(kind, disk, host, count)),
  { maxLength: 5 },
);

function id(): fc.Arbitrary<number> {
  return fc.oneof(
    fc.integer({ min: 0, max: 10 }),
    fc.integer({ min: 65530, max: 65540 }),
    fc.integer({ min: HIGHEST_ID - 5, max: HIGHEST_ID }),
    fc.integer({ min: 0, max: HIGHEST_ID }),
  );
}

/** Some ids worth looking up: the ends of every extent, on disk. */
export function edges(map: Idmap): { kind: IdKind; id: number }[] {
  return map.flatMap(e =>
    [e.fsId - 1, e.fsId, e.fsId + Math.floor(e.count / 2), e.fsId + e.count - 1, e.fsId + e.count]
      .filter(i => i >= 0 && i <= HIGHEST_ID)
      .map(i => ({ kind: e.kind, id: i })),
  );
}
