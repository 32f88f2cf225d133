import { ShiftvolError } from '../errors.ts';
import {
  type Extent,
  HIGHEST_ID,
  type IdKind,
  type Idmap,
  type IdRange,
  LOWEST_HOST_ID,
  MAX_EXTENTS,
} from './idmap.ts';
import { isId } from './ids.ts';
import { MAX_MAP_BYTES, mapLines } from './kernel-text.ts';
import { covers, endOf, isRange, overlaps, showRange, showRanges, span } from './range.ts';

export type HostRanges = { readonly uid: readonly IdRange[]; readonly gid: readonly IdRange[] };

/** Something about a map. An `error` forbids its use, a `notice` is worth knowing. */
export type Problem = {
  readonly severity: 'error' | 'notice';
  readonly code?: 'SV_IDMAP_INVALID';
  readonly text: string;
  /** `extents[2].hostId` */
  readonly field: string;
  readonly remedy?: string;
};

export type CheckOptions = {
  /** The host ids of the instance, a kind. */
  readonly within?: HostRanges;
  /** Accept host ids below 65536: for a step of a composition, whose right side are ids of a container. Never for a mount. */
  readonly anyHostId?: boolean;
};

const KINDS = ['uid', 'gid'] as const satisfies readonly IdKind[];

/** Everything that is wrong with a map or worth knowing of it, errors first. Pure; trusts no number that it is given. */
export function checkIdmap(map: Idmap, options: CheckOptions = {}): Problem[] {
  if (map.length === 0)
    return [error('extents', 'Cannot use an empty idmap: it maps no ids, at least one extent is needed')];
  const entries = map.map((extent, index) => ({ extent, field: `extents[${index}]` }));
  const sane = entries.filter(e => extentProblems(e).length === 0);
  const problems = [
    ...entries.flatMap(extentProblems),
    ...(options.anyHostId === true ? [] : sane.flatMap(lowHostProblems)),
    ...KINDS.flatMap(kind => sizeProblems(map, kind)),
    ...KINDS.flatMap(kind => overlapProblems(sane, kind, FS_SIDE)),
    ...KINDS.flatMap(kind => overlapProblems(sane, kind, HOST_SIDE)),
    ...withinProblems(sane, options.within),
  ];
  return problems.length > 0
    ? problems
    : [...KINDS.flatMap(kind => holeNotices(map, kind)), ...KINDS.flatMap(kind => missingNotices(map, kind))];
}

/**
 * Returns if the map may be mounted with: no overlap on either side, nothing past 4294967294, no host id below 65536, none outside
 * `within`, uids and gids both mapped (the kernel refuses half a map), and small enough for the kernel. Every mount passes through this.
 * @throws SV_IDMAP_INVALID for the first error
 */
export function requireIdmap(map: Idmap, within: HostRanges): void {
  const problems = checkIdmap(map, { within });
  const worst = problems.find(p => p.severity === 'error') ?? problems.find(p => p.field === MISSING);
  if (worst !== undefined) throw problemError(worst);
}

export function problemError(problem: Problem): ShiftvolError {
  return new ShiftvolError('SV_IDMAP_INVALID', problem.text, {
    field: problem.field,
    ...(problem.remedy === undefined ? {} : { remedy: problem.remedy }),
  });
}

type Entry = { readonly extent: Extent; readonly field: string };
type Side = { readonly name: 'fsId' | 'hostId'; readonly words: string; readonly range: (extent: Extent) => IdRange };

const FS_SIDE: Side = { name: 'fsId', words: 'on-disk', range: e => ({ start: e.fsId, count: e.count }) };
const HOST_SIDE: Side = { name: 'hostId', words: 'host', range: e => ({ start: e.hostId, count: e.count }) };
/** Field of the notice that a whole kind is not mapped. */
const MISSING = 'extents';

function error(field: string, text: string, remedy?: string): Problem {
  return { severity: 'error', code: 'SV_IDMAP_INVALID', text, field, ...(remedy === undefined ? {} : { remedy }) };
}

function extentProblems({ extent, field }: Entry): Problem[] {
  if (!KINDS.some(kind => kind === extent.kind))
    return [error(`${field}.kind`, `Cannot map ids of kind ${JSON.stringify(extent.kind)}: accepted are uid and gid`)];
  if (!Number.isSafeInteger(extent.count) || extent.count < 1)
    return [
      error(`${field}.count`, `Cannot map ${extent.count} ${extent.kind}s: a count is a whole number of at least 1`),
    ];
  return [FS_SIDE, HOST_SIDE].flatMap(side => {
    const range = side.range(extent);
    if (!isId(range.start))
      return [
        error(
          `${field}.${side.name}`,
          `Cannot map ${side.words} ${extent.kind} ${range.start}: ids are whole numbers in 0-${HIGHEST_ID}`,
        ),
      ];
    if (!isRange(range))
      return [
        error(
          `${field}.count`,
          `Cannot map ${side.words} ${extent.kind}s ${showRange(range)}: the highest id there is is ${HIGHEST_ID}`,
          `choose a count of at most ${HIGHEST_ID - range.start + 1}`,
        ),
      ];
    return [];
  });
}

function lowHostProblems({ extent, field }: Entry): Problem[] {
  if (extent.hostId >= LOWEST_HOST_ID) return [];
  return [
    error(
      `${field}.hostId`,
      `Cannot map on-disk ${extent.kind} ${extent.fsId} to host id ${extent.hostId}: host ids below ${LOWEST_HOST_ID} belong to the host’s own users`,
      `choose a host id of at least ${LOWEST_HOST_ID}`,
    ),
  ];
}

function sizeProblems(map: Idmap, kind: IdKind): Problem[] {
  const extents = map.filter(e => e.kind === kind).length;
  if (extents > MAX_EXTENTS)
    return [
      error(
        'extents',
        `Cannot map ${extents} ${kind} extents: the kernel accepts ${MAX_EXTENTS}`,
        'merge adjacent extents',
      ),
    ];
  const bytes = mapLines(map, kind).length;
  if (bytes > MAX_MAP_BYTES)
    return [
      error(
        'extents',
        `Cannot map ${extents} ${kind} extents: they take ${bytes} bytes, the kernel accepts ${MAX_MAP_BYTES}`,
        'use fewer and larger extents',
      ),
    ];
  return [];
}

function overlapProblems(entries: readonly Entry[], kind: IdKind, side: Side): Problem[] {
  const sorted = entries
    .filter(e => e.extent.kind === kind)
    .toSorted((a, b) => side.range(a.extent).start - side.range(b.extent).start);
  let widest = sorted[0];
  const problems: Problem[] = [];
  for (const entry of sorted.slice(1)) {
    if (widest === undefined) break;
    const [before, range] = [side.range(widest.extent), side.range(entry.extent)];
    if (overlaps(before, range))
      problems.push(
        error(
          `${entry.field}.${side.name}`,
          `Cannot map ${side.words} ${kind}s ${showRange(range)}: ${widest.field} has ${showRange(before)}, an id is mapped once only`,
        ),
      );
    if (endOf(range) > endOf(before)) widest = entry;
  }
  return problems;
}

function withinProblems(entries: readonly Entry[], within: HostRanges | undefined): Problem[] {
  if (within === undefined) return [];
  return entries.flatMap(({ extent, field }) => {
    const allowed = within[extent.kind];
    const range = HOST_SIDE.range(extent);
    if (covers(allowed, range)) return [];
    return [
      error(
        `${field}.hostId`,
        `Cannot map on-disk ${extent.kind} ${extent.fsId} to host ${extent.kind}s ${showRange(range)}: the instance owns ${showRanges(allowed)}`,
        ...(allowed.length === 0 ? [] : [`choose host ids in ${showRanges(allowed)}`]),
      ),
    ];
  });
}

function holeNotices(map: Idmap, kind: IdKind): Problem[] {
  const sorted = map.filter(e => e.kind === kind).toSorted((a, b) => a.fsId - b.fsId);
  return sorted.slice(1).flatMap((extent, index): Problem[] => {
    const before = sorted[index];
    if (before === undefined || before.fsId + before.count === extent.fsId) return [];
    const hole = showRange(span(before.fsId + before.count, extent.fsId));
    return [
      {
        severity: 'notice',
        text: `On-disk ${kind}s ${hole} are not mapped: they show as 65534 and cannot be made`,
        field: `extents[${map.indexOf(extent)}].fsId`,
      },
    ];
  });
}

function missingNotices(map: Idmap, kind: IdKind): Problem[] {
  if (map.some(e => e.kind === kind)) return [];
  return [
    {
      severity: 'notice',
      text: `No ${kind} is mapped: the kernel mounts with a map of both kinds only`,
      field: MISSING,
    },
  ];
}
