/** Who claims which host ids, and where two claims cannot both be right. Pure. */
import { endOf, overlaps } from '../idmap/range.ts';

export type IdKind = 'uid' | 'gid';
/** ours: what shiftvol gave an instance; runtime: configured containers; live: user namespaces that are alive; subid: /etc/subuid, /etc/subgid. */
export const LANES = ['ours', 'runtime', 'live', 'subid'] as const;
export type Lane = (typeof LANES)[number];
export type Claim = {
  readonly kind: IdKind;
  readonly lane: Lane;
  readonly start: number;
  readonly count: number;
  readonly owner: string;
};
/** `clashes`: what of it somebody else has too, at most `MOST_CLASHES`. */
export type IdRow = Claim & { readonly clashes?: readonly Clash[] };
export type Clash = { readonly start: number; readonly count: number; readonly owner: string };

export const MOST_CLASHES = 8;

/** A claim by how its owner is called, see engine/allocator.ts and container/ranges/. */
export function laneOf(owner: string): Lane {
  if (owner.startsWith('shiftvol ')) return 'ours';
  return owner.startsWith('user:[') || owner.startsWith('user namespace ') ? 'live' : 'runtime';
}

type Entry = { readonly claim: Claim; readonly clashes: Clash[] };

/** Every claim, in order of its first id, with what clashes with it. */
export function idRows(claims: readonly Claim[]): readonly IdRow[] {
  const entries: readonly Entry[] = claims
    .toSorted((a, b) => a.start - b.start || b.count - a.count)
    .map(claim => ({ claim, clashes: [] }));
  for (const kind of ['uid', 'gid'] as const) findClashes(entries.filter(({ claim }) => claim.kind === kind));
  return entries.map(({ claim, clashes }) => (clashes.length === 0 ? claim : { ...claim, clashes }));
}

/** In order of their first ids. Thousands may share one range: what has its list full is looked at by those alone that have not. */
function findClashes(entries: readonly Entry[]): void {
  let open: Entry[] = [];
  let full: Entry[] = [];
  for (const entry of entries) {
    const reaches = (other: Entry) => endOf(other.claim) > entry.claim.start;
    open = open.filter(reaches);
    full = full.filter(reaches);
    for (const other of open) note(entry, other);
    for (const other of full) {
      if (isFull(entry)) break;
      note(entry, other);
    }
    full.push(...open.filter(isFull));
    open = open.filter(other => !isFull(other));
    (isFull(entry) ? full : open).push(entry);
    // They are looked at only until a list is full; those that reach farthest meet whatever the others would.
    if (full.length > 2 * MOST_FULL)
      full = full.toSorted((a, b) => endOf(b.claim) - endOf(a.claim)).slice(0, MOST_FULL);
  }
}

const MOST_FULL = 4 * MOST_CLASHES;
const isFull = ({ clashes }: Entry): boolean => clashes.length >= MOST_CLASHES;

function note(a: Entry, b: Entry): void {
  if (!isClash(a.claim, b.claim)) return;
  const shared = common(a.claim, b.claim);
  if (!isFull(a)) a.clashes.push({ ...shared, owner: b.claim.owner });
  if (!isFull(b)) b.clashes.push({ ...shared, owner: a.claim.owner });
}

/**
 * Whether two claims that have ids in common contradict each other.
 * - An instance of ours and the runtime's container of the same ids are the same instance (Nova's name and the runtime's differ).
 * - A user namespace within a claim is that container's, or one inside of it; one that reaches out of it is somebody else's.
 *   Two that are equal are not told: one may be inside of the other, and /proc does not say so.
 * - subuid entries are what the others are taken from; an owner's and root's of the same ids belong together: the runtime needs both, and
 *   its packages bring entries of their own.
 */
function isClash(a: Claim, b: Claim): boolean {
  if (!overlaps(a, b) || a.owner === b.owner) return false;
  if (a.lane === 'subid' || b.lane === 'subid') return a.lane === b.lane && !isRuntimes(a) && !isRuntimes(b);
  if (a.lane === 'live' && b.lane === 'live') return !contains(a, b) && !contains(b, a);
  if (a.lane === 'live') return !contains(b, a);
  if (b.lane === 'live') return !contains(a, b);
  return a.lane === b.lane || a.start !== b.start || a.count !== b.count;
}

const RUNTIMES = new Set(['root', '0', 'lxd', '_lxd', 'incus', '_incus']);
const isRuntimes = ({ owner }: Claim): boolean => RUNTIMES.has(owner);
const contains = (a: Claim, b: Claim): boolean => a.start <= b.start && endOf(a) >= endOf(b);

function common(a: Claim, b: Claim): { readonly start: number; readonly count: number } {
  const start = Math.max(a.start, b.start);
  return { start, count: Math.min(endOf(a), endOf(b)) - start };
}
