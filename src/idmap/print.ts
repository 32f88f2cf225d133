import { ShiftvolError } from '../errors.ts';
import { type IdmapForm, SHAPES } from './forms.ts';
import type { Extent, IdKind, Idmap } from './idmap.ts';
import { endOf, showRange } from './range.ts';

/**
 * The map as text of this form, which `parseIdmap` reads back as the same extents (in the same order where the form has kinds).
 * `owner` is for `subid` only.
 * @throws SV_IDMAP_INVALID: the form cannot say it (uid and gid differ and it has no kinds; subid ranges with a hole)
 */
export function printIdmap(map: Idmap, form: IdmapForm, owner = 'root'): string {
  switch (form) {
    case 'json':
      return JSON.stringify({ extents: map.map(({ kind, fsId, hostId, count }) => ({ kind, fsId, hostId, count })) });
    case 'lxd-json':
      return JSON.stringify(map.map(lxdEntry));
    case 'columns':
      return pairs(map)
        .map(e => `${WORD[e.kinds]} ${e.fsId} ${e.hostId} ${e.count}`)
        .join('\n');
    case 'lxd':
      return pairs(map).map(lxdLine).join('\n');
    case 'lxc':
      return pairs(map)
        .map(e => `lxc.idmap = ${LETTER[e.kinds]} ${e.fsId} ${e.hostId} ${e.count}`)
        .join('\n');
    case 'mount':
      return pairs(map)
        .map(e => `${LETTER[e.kinds]}:${e.fsId}:${e.hostId}:${e.count}`)
        .join(' ');
    case 'triple':
      return kindless(map, form)
        .map(e => `${e.fsId}:${e.hostId}:${e.count}`)
        .join(' ');
    case 'proc':
      return kindless(map, form)
        .map(e => `${e.fsId} ${e.hostId} ${e.count}`)
        .join('\n');
    case 'subid':
      return subidLines(kindless(map, form), owner);
    default:
      return form satisfies never;
  }
}

type Pair = Extent & { readonly kinds: IdKind | 'both' };
const WORD = { uid: 'uid', gid: 'gid', both: 'both' } as const;
const LETTER = { uid: 'u', gid: 'g', both: 'b' } as const;

/** A uid extent and the gid extent after it become one entry where they are equal. */
function pairs(map: Idmap): Pair[] {
  const out: Pair[] = [];
  for (const extent of map) {
    const before = out.at(-1);
    if (before?.kinds === 'uid' && extent.kind === 'gid' && sameIds(before, extent))
      out[out.length - 1] = { ...before, kinds: 'both' };
    else out.push({ ...extent, kinds: extent.kind });
  }
  return out;
}

function sameIds(a: Extent, b: Extent): boolean {
  return a.fsId === b.fsId && a.hostId === b.hostId && a.count === b.count;
}

function kindless(map: Idmap, form: IdmapForm): readonly Extent[] {
  const uids = map.filter(e => e.kind === 'uid');
  const gids = map.filter(e => e.kind === 'gid');
  if (uids.length === gids.length && uids.every(uid => gids.some(gid => sameIds(uid, gid)))) return uids;
  throw new ShiftvolError(
    'SV_IDMAP_INVALID',
    `Cannot print the idmap as "${SHAPES[form]}": uids and gids are mapped differently, the form needs them equal`,
    { field: 'extents', remedy: 'choose a form with kinds, such as mount' },
  );
}

function lxdEntry({ kind, fsId, hostId, count }: Extent) {
  return { Isuid: kind === 'uid', Isgid: kind === 'gid', Hostid: hostId, Nsid: fsId, Maprange: count };
}

function lxdLine(e: Pair): string {
  const [host, container] = [e.hostId, e.fsId].map(start => showRange({ start, count: e.count }));
  return `${WORD[e.kinds]} ${host} ${container}`;
}

function subidLines(extents: readonly Extent[], owner: string): string {
  let next = 0;
  return extents
    .map((extent, index) => {
      if (extent.fsId !== next)
        throw new ShiftvolError(
          'SV_IDMAP_INVALID',
          `Cannot print the idmap as "${SHAPES.subid}": id ${next} does not come next, the form needs ids from 0 on in order and without holes`,
          { field: `extents[${index}].fsId` },
        );
      next = endOf({ start: extent.fsId, count: extent.count });
      return `${owner}:${extent.hostId}:${extent.count}`;
    })
    .join('\n');
}
