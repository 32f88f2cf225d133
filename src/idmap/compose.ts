import { checkIdmap, type HostRanges, problemError } from './check.ts';
import { type Extent, HIGHEST_ID, type IdKind, type Idmap, type IdRange, LOWEST_HOST_ID } from './idmap.ts';
import { fsId, hostId } from './ids.ts';
import { endOf, intersect, span, union } from './range.ts';

/**
 * The map that `second` makes of what `first` shows: on disk -> container, container -> host gives on disk -> host. Ids that
 * either leaves out are left out. In the order of `first`.
 * @throws SV_IDMAP_INVALID: one of the two overlaps or overflows
 */
export function compose(first: Idmap, second: Idmap): Idmap {
  requireSound(first);
  requireSound(second);
  return first.flatMap(a =>
    second
      .filter(b => b.kind === a.kind)
      .flatMap(b =>
        intersect([hostRange(a)], [fsRange(b)]).map(middle => ({
          kind: a.kind,
          fsId: fsId(a.fsId + (middle.start - a.hostId)),
          hostId: hostId(b.hostId + (middle.start - b.fsId)),
          count: middle.count,
        })),
      ),
  );
}

/** The way back: shown id -> id on disk. */
export function invert(map: Idmap): Idmap {
  return map.map(e => ({ kind: e.kind, fsId: fsId(e.hostId), hostId: hostId(e.fsId), count: e.count }));
}

/** The same map with no extent that reaches over on-disk id `boundary`: one that does becomes two, the second begins there. */
export function split(map: Idmap, boundary: number): Idmap {
  return map.flatMap(e => {
    const head = boundary - e.fsId;
    if (head <= 0 || head >= e.count) return [e];
    return [
      { ...e, count: head },
      { ...e, fsId: fsId(boundary), hostId: hostId(e.hostId + head), count: e.count - head },
    ];
  });
}

/** The same map in as few extents as possible: uids before gids, by on-disk id. */
export function merge(map: Idmap): Idmap {
  const merged: Extent[] = [];
  for (const extent of canonical(map)) {
    const before = merged.at(-1);
    if (
      before &&
      before.kind === extent.kind &&
      endOf(fsRange(before)) === extent.fsId &&
      endOf(hostRange(before)) === extent.hostId
    )
      merged[merged.length - 1] = { ...before, count: before.count + extent.count };
    else merged.push(extent);
  }
  return merged;
}

/** Uids before gids, by on-disk id. */
export function canonical(map: Idmap): Idmap {
  return map.toSorted((a, b) => (a.kind === b.kind ? a.fsId - b.fsId : a.kind === 'uid' ? -1 : 1));
}

/** Whether two maps map the same ids in the same way, however they are cut. */
export function sameIdmap(a: Idmap, b: Idmap): boolean {
  const [left, right] = [merge(a), merge(b)];
  return (
    left.length === right.length &&
    left.every((e, i) => {
      const other = right[i];
      return e.kind === other?.kind && e.fsId === other.fsId && e.hostId === other.hostId && e.count === other.count;
    })
  );
}

/** Both kinds: `count` ids from `start` on disk, shown as those from `host` on. */
export function bothKinds(start: number, host: number, count: number): Idmap {
  return (['uid', 'gid'] as const).map(kind => ({ kind, fsId: fsId(start), hostId: hostId(host), count }));
}

/**
 * On disk -> host, for an instance: what stands on disk from `idBase` on are the container's ids from 0 on, and `containerMap` is what
 * the container's user namespace makes of those. Disk 100000-165535 with base 100000 in a container at 200000 shows as 200000-265535.
 */
export function mapForInstance(idBase: number, containerMap: Idmap): Idmap {
  if (idBase === 0) {
    requireSound(containerMap);
    return [...containerMap.filter(e => e.kind === 'uid'), ...containerMap.filter(e => e.kind === 'gid')];
  }
  return compose(bothKinds(idBase, 0, HIGHEST_ID - idBase + 1), containerMap);
}

/**
 * The map without what it maps to the host's own users (ids that a container shares with the host, LXD's `both 1000 1000`): these
 * are never mapped on a mount, and show as 65534 there.
 */
export function withoutLowHostIds(map: Idmap): Idmap {
  return invert(split(invert(map), LOWEST_HOST_ID)).filter(e => e.hostId >= LOWEST_HOST_ID);
}

/** The host ids that the map shows, a kind. */
export function hostRanges(map: Idmap): HostRanges {
  const ranges = (kind: IdKind): IdRange[] => union(map.filter(e => e.kind === kind).map(hostRange));
  return { uid: ranges('uid'), gid: ranges('gid') };
}

/** What an on-disk id is shown as, or undefined where it is not mapped (the kernel shows 65534 then). */
export function shownAs(map: Idmap, kind: IdKind, id: number): number | undefined {
  const extent = map.find(e => e.kind === kind && e.fsId <= id && id < endOf(fsRange(e)));
  return extent && extent.hostId + (id - extent.fsId);
}

/** Throws where the map overlaps or overflows, whatever its host ids are. @throws SV_IDMAP_INVALID */
export function requireSound(map: Idmap): void {
  const worst = map.length === 0 ? undefined : checkIdmap(map, { anyHostId: true }).find(p => p.severity === 'error');
  if (worst !== undefined) throw problemError(worst);
}

function fsRange(e: Extent): IdRange {
  return span(e.fsId, e.fsId + e.count);
}

function hostRange(e: Extent): IdRange {
  return span(e.hostId, e.hostId + e.count);
}
