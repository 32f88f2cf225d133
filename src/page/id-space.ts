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

/** Every claim, in order of its first id, with what clashes with it. */
export function idRows(claims: readonly Claim[]): readonly IdRow[] {
  const sorted = claims.toSorted((a, b) => a.start - b.start || b.count - a.count);
  const clashes = new Map<Claim, Clash[]>();
  for (const kind of ['uid', 'gid'] as const) {
    let active: Claim[] = [];
    for (const claim of sorted) {
      if (claim.kind !== kind) continue;
      active = active.filter(before => endOf(before) > claim.start);
      for (const other of active) {
        // Each has its own bound: a hundred that share one range are a hundred short lists.
        const [mine, theirs] = [listOf(clashes, claim), listOf(clashes, other)];
        if (mine.length >= MOST_CLASHES && theirs.length >= MOST_CLASHES) continue;
        if (!isClash(claim, other)) continue;
        const shared = common(claim, other);
        if (mine.length < MOST_CLASHES) mine.push({ ...shared, owner: other.owner });
        if (theirs.length < MOST_CLASHES) theirs.push({ ...shared, owner: claim.owner });
      }
      active.push(claim);
    }
  }
  return sorted.map(claim => {
    const found = clashes.get(claim) ?? [];
    return found.length === 0 ? claim : { ...claim, clashes: found };
  });
}

/**
 * Whether two claims that have ids in common contradict each other.
 * - An instance of ours and the runtime's container of the same ids are the same instance (Nova's name and the runtime's differ).
 * - A user namespace within a claim is that container's, or one inside of it; one that reaches out of it is somebody else's.
 * - subuid entries are what the others are taken from; root's and an owner's of the same ids belong together (the runtime needs both).
 */
function isClash(a: Claim, b: Claim): boolean {
  if (!overlaps(a, b) || a.owner === b.owner) return false;
  if (a.lane === 'subid' || b.lane === 'subid') return a.lane === b.lane && !isRoots(a) && !isRoots(b);
  if (a.lane === 'live' && b.lane === 'live') return !contains(a, b) && !contains(b, a);
  if (a.lane === 'live') return !contains(b, a);
  if (b.lane === 'live') return !contains(a, b);
  return a.lane === b.lane || a.start !== b.start || a.count !== b.count;
}

const isRoots = ({ owner }: Claim): boolean => owner === 'root' || owner === '0';
const contains = (a: Claim, b: Claim): boolean => a.start <= b.start && endOf(a) >= endOf(b);

function common(a: Claim, b: Claim): { readonly start: number; readonly count: number } {
  const start = Math.max(a.start, b.start);
  return { start, count: Math.min(endOf(a), endOf(b)) - start };
}

function listOf(clashes: Map<Claim, Clash[]>, claim: Claim): Clash[] {
  const there = clashes.get(claim);
  if (there) return there;
  const fresh: Clash[] = [];
  clashes.set(claim, fresh);
  return fresh;
}
