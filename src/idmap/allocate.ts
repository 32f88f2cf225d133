import { ShiftvolError } from '../errors.ts';
import type { HostRanges } from './check.ts';
import { HIGHEST_ID, type IdKind, type IdRange, LOWEST_HOST_ID } from './idmap.ts';
import { covers, endOf, intersect, isRange, overlaps, showRange, showRanges, span, subtract, union } from './range.ts';

/** Host ids that are spoken for, and by whom. The shape of the engine's `UsedRange`. */
export type TakenRange = IdRange & { readonly kind: IdKind; readonly owner: string };

export type AllocateRequest = {
  /** How many uids, and as many gids. */
  readonly want: number;
  readonly pool: HostRanges;
  readonly used: readonly TakenRange[];
  /** Where to begin to look, so that an instance that comes back gets its old range where that is free. Default: the pool's beginning. */
  readonly hint?: number;
  /** This start and no other. */
  readonly start?: number;
  /** Whether uids and gids may begin at different ids where they cannot begin at the same one (LXD's security.idmap.base cannot). */
  readonly mayDiffer?: boolean;
};

export type Allocation = { readonly uid: IdRange; readonly gid: IdRange };

/** Other tools give out ranges whose low 16 bits are zero (systemd-nspawn, LXD with such a subuid entry): so do we where there is room. */
export const ALIGNMENT = 65536;

/**
 * The first range of the pool that nobody uses. Pure and deterministic: the same request gives the same answer. Never below host id
 * 65536 and never past 4294967294, whatever the pool says.
 * @throws SV_RANGE_EXHAUSTED saying how many ids are in use and by whom; SV_RANGE_TAKEN: `start` overlaps a used range;
 * SV_IDMAP_INVALID: `want` is not a whole number of at least 1, or `start` is not in the pool
 */
export function allocateRange(request: AllocateRequest): Allocation {
  const { want } = request;
  if (!Number.isSafeInteger(want) || want < 1)
    throw new ShiftvolError(
      'SV_IDMAP_INVALID',
      `Cannot allocate ${want} ids: accepted is a whole number of at least 1`,
      {
        field: 'count',
      },
    );
  if (request.start !== undefined) return fixed(request, { start: request.start, count: want });
  const hint = request.hint ?? 0;
  const free = { uid: freeIds(request, 'uid'), gid: freeIds(request, 'gid') };
  const common = firstFit(intersect(free.uid, free.gid), want, hint);
  if (common !== undefined) return { uid: common, gid: common };
  const uid = firstFit(free.uid, want, hint);
  const gid = firstFit(free.gid, want, hint);
  if (uid === undefined) throw exhausted(request, 'uid', free.uid);
  if (gid === undefined) throw exhausted(request, 'gid', free.gid);
  if (request.mayDiffer === true) return { uid, gid };
  throw new ShiftvolError(
    'SV_RANGE_EXHAUSTED',
    `Cannot allocate ${want} ids that begin at the same uid and gid: uids are free in ${showRanges(free.uid)} and gids in ${showRanges(free.gid)}`,
    { remedy: 'give /etc/subuid and /etc/subgid the same entries' },
  );
}

/** The pool without what may never be used. */
function usable(pool: readonly IdRange[]): IdRange[] {
  return intersect(pool, [span(LOWEST_HOST_ID, HIGHEST_ID + 1)]);
}

function freeIds({ pool, used }: AllocateRequest, kind: IdKind): IdRange[] {
  return subtract(
    usable(pool[kind]),
    used.filter(r => r.kind === kind),
  );
}

/** Aligned from the hint on, aligned from the beginning, then the same unaligned. */
function firstFit(free: readonly IdRange[], want: number, hint: number): IdRange | undefined {
  for (const alignment of [ALIGNMENT, 1])
    for (const from of [hint, 0])
      for (const range of free) {
        // A quotient of two safe integers: no 32-bit operator here, they wrap to host id 0.
        const start = Math.ceil(Math.max(range.start, from) / alignment) * alignment;
        if (start + want <= endOf(range)) return { start, count: want };
      }
  return undefined;
}

function fixed({ pool, used }: AllocateRequest, range: IdRange): Allocation {
  for (const kind of ['uid', 'gid'] as const) {
    const allowed = usable(pool[kind]);
    if (!isRange(range) || !covers(allowed, range))
      throw new ShiftvolError(
        'SV_IDMAP_INVALID',
        `Cannot allocate ${kind}s ${showRange(range)}: the pool has ${showRanges(allowed)}`,
        { field: 'start', remedy: `choose a start in the pool, or give its owner these ids in /etc/sub${kind}` },
      );
    const taken = used.find(r => r.kind === kind && overlaps(r, range));
    if (taken !== undefined)
      throw new ShiftvolError(
        'SV_RANGE_TAKEN',
        `Cannot allocate ${kind}s ${showRange(range)}: ${taken.owner} uses ${showRange(taken)}, ids that nobody uses are accepted`,
        { field: 'start', remedy: 'leave the start out to get a free range' },
      );
  }
  return { uid: range, gid: range };
}

function exhausted({ want, pool, used }: AllocateRequest, kind: IdKind, free: readonly IdRange[]): ShiftvolError {
  const allowed = usable(pool[kind]);
  const total = size(allowed);
  if (total === 0)
    return new ShiftvolError(
      'SV_RANGE_EXHAUSTED',
      `Cannot allocate ${want} ${kind}s: the pool is empty, an entry of at least ${want} ids from ${LOWEST_HOST_ID} on is needed`,
      { remedy: `add a line OWNER:START:COUNT to /etc/sub${kind}` },
    );
  const owners = topOwners(
    used.filter(r => r.kind === kind),
    allowed,
  );
  const largest = Math.max(0, ...free.map(r => r.count));
  return new ShiftvolError(
    'SV_RANGE_EXHAUSTED',
    `Cannot allocate ${want} ${kind}s: ${total - size(free)} of ${total} ids of the pool are in use${owners}, the largest free range has ${largest}`,
    {
      remedy: `destroy instances that are no longer needed, or give the pool's owner more ids in /etc/subuid and /etc/subgid`,
    },
  );
}

/** ` (12 owners, most by lxd:c1 65536, lxd:c2 65536, lxd:c3 65536)` */
function topOwners(used: readonly TakenRange[], allowed: readonly IdRange[]): string {
  const totals = [...Map.groupBy(used, r => r.owner)]
    .map(([owner, ranges]) => ({ owner, ids: size(intersect(ranges, allowed)) }))
    .filter(({ ids }) => ids > 0)
    .toSorted((a, b) => b.ids - a.ids || (a.owner < b.owner ? -1 : 1));
  if (totals.length === 0) return '';
  const most = totals.slice(0, 3).map(({ owner, ids }) => `${owner} ${ids}`);
  return ` (${totals.length} owner${totals.length === 1 ? '' : 's'}, most by ${most.join(', ')})`;
}

function size(ranges: readonly IdRange[]): number {
  return union(ranges).reduce((sum, r) => sum + r.count, 0);
}
