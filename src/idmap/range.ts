/** Arithmetic on id ranges. Sums stay far below 2^53, so that nothing wraps as it does in 32 bits. */
import { HIGHEST_ID, type IdRange } from './idmap.ts';

/** First id after the range. */
export function endOf(range: IdRange): number {
  return range.start + range.count;
}

/** `200000-265535`, or `1000` for one id. */
export function showRange(range: IdRange): string {
  return range.count === 1 ? `${range.start}` : `${range.start}-${endOf(range) - 1}`;
}

export function showRanges(ranges: readonly IdRange[]): string {
  return ranges.length === 0 ? 'no ids' : ranges.map(showRange).join(', ');
}

/** At least one id, and none past the highest that there is. */
export function isRange(range: IdRange): boolean {
  return (
    Number.isSafeInteger(range.start) &&
    Number.isSafeInteger(range.count) &&
    range.start >= 0 &&
    range.count >= 1 &&
    endOf(range) - 1 <= HIGHEST_ID
  );
}

export function overlaps(a: IdRange, b: IdRange): boolean {
  return a.start < endOf(b) && b.start < endOf(a);
}

/** The same ids in as few ranges as possible, ascending. */
export function union(ranges: readonly IdRange[]): IdRange[] {
  const merged: IdRange[] = [];
  for (const range of ranges.filter(r => r.count > 0).toSorted((a, b) => a.start - b.start)) {
    const before = merged.at(-1);
    if (before === undefined || range.start > endOf(before)) merged.push(range);
    else merged[merged.length - 1] = span(before.start, Math.max(endOf(before), endOf(range)));
  }
  return merged;
}

/** The ids that both have, ascending. */
export function intersect(a: readonly IdRange[], b: readonly IdRange[]): IdRange[] {
  const others = union(b);
  return union(a).flatMap(range =>
    others
      .filter(other => overlaps(range, other))
      .map(other => span(Math.max(range.start, other.start), Math.min(endOf(range), endOf(other)))),
  );
}

/** The ids of `a` that `b` does not have, ascending. */
export function subtract(a: readonly IdRange[], b: readonly IdRange[]): IdRange[] {
  const holes = union(b);
  return union(a).flatMap(range => {
    const left: IdRange[] = [];
    let from = range.start;
    for (const hole of holes) {
      if (!overlaps(range, hole)) continue;
      if (hole.start > from) left.push(span(from, hole.start));
      from = endOf(hole);
    }
    if (from < endOf(range)) left.push(span(from, endOf(range)));
    return left;
  });
}

export function covers(ranges: readonly IdRange[], range: IdRange): boolean {
  return union(ranges).some(r => r.start <= range.start && endOf(range) <= endOf(r));
}

/** The ids from `start` up to but not including `end`. */
export function span(start: number, end: number): IdRange {
  return { start, count: end - start };
}
