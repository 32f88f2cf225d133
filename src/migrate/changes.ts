/** What differs between two files that share blocks, by where their bytes lie; nothing of them is read. Pure. */
import type { FileExtent } from '../kernel/fiemap.ts';

type Extent = Pick<FileExtent, 'start' | 'count' | 'physical' | 'unwritten' | 'vague'>;
/** `zeros`: a hole now, and not before. */
export type Change = { readonly kind: 'data' | 'zeros'; readonly start: number; readonly count: number };

/**
 * In order, without overlaps, within `sizeBytes`. Both files must be held by nobody who writes to them, so that no block of the older one
 * can have been given away: then the same place means the same bytes, and nothing that changed is left out. (The flag SHARED says only
 * that somebody has the block too.) An older file that is shorter has a hole at its end.
 */
export function changesBetween(before: Iterable<Extent>, now: Iterable<Extent>, sizeBytes: number): readonly Change[] {
  const [old, young] = [new Cursor(before), new Cursor(now)];
  const found: Change[] = [];
  for (let at = 0; at < sizeBytes; ) {
    const [was, is] = [old.at(at), young.at(at)];
    const end = Math.min(was.end, is.end, sizeBytes);
    const kind = difference(was, is);
    if (kind !== undefined) append(found, { kind, start: at, count: end - at });
    at = end;
  }
  return found;
}

/** Data that is less than `gap` apart is one change: what lies between is sent too, and is right. */
export function joined(changes: readonly Change[], gap: number): readonly Change[] {
  const found: Change[] = [];
  for (const change of changes) {
    const last = found.at(-1);
    const distance = last ? change.start - last.start - last.count : Number.POSITIVE_INFINITY;
    if (last?.kind === 'data' && change.kind === 'data' && distance < gap)
      found[found.length - 1] = { ...last, count: change.start + change.count - last.start };
    else found.push(change);
  }
  return found;
}

type Place = { readonly end: number; readonly physical?: number; readonly vague?: boolean };

/** Walks along a file. `at` is asked with rising positions. */
class Cursor {
  readonly #extents: Iterator<Extent>;
  #next: Extent | undefined;

  constructor(extents: Iterable<Extent>) {
    this.#extents = extents[Symbol.iterator]();
    this.#advance();
  }

  at(position: number): Place {
    while (this.#next && this.#next.start + this.#next.count <= position) this.#advance();
    const extent = this.#next;
    if (!extent) return { end: Number.POSITIVE_INFINITY };
    if (position < extent.start) return { end: extent.start };
    const end = extent.start + extent.count;
    if (extent.unwritten) return { end };
    return { end, physical: extent.physical + position - extent.start, vague: extent.vague };
  }

  #advance(): void {
    const { done, value } = this.#extents.next();
    this.#next = done === true ? undefined : value;
  }
}

function difference(was: Place, is: Place): Change['kind'] | undefined {
  if (is.physical === undefined) return was.physical === undefined ? undefined : 'zeros';
  const same = was.physical === is.physical && was.vague !== true && is.vague !== true;
  return same ? undefined : 'data';
}

function append(changes: Change[], change: Change): void {
  const last = changes.at(-1);
  if (last?.kind === change.kind && last.start + last.count === change.start)
    changes[changes.length - 1] = { ...last, count: last.count + change.count };
  else changes.push(change);
}
