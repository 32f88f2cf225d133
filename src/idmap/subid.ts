/** /etc/subuid and /etc/subgid (subuid(5)): lines "OWNER:START:COUNT", the owner by name or by number, any number of lines an owner. */
import { HIGHEST_ID, type IdRange } from './idmap.ts';
import { endOf, intersect, showRange, showRanges, span, union } from './range.ts';

export type SubidOwner = { readonly name: string; readonly uid?: number };
export type SubidEntry = IdRange & { readonly owner: string; readonly line: number };
export type SubidFile = {
  readonly entries: readonly SubidEntry[];
  /** Lines that cannot be used, in words. The rest of the file counts all the same. */
  readonly problems: readonly string[];
};

/** Reads a whole file. A line that reaches past the highest id counts up to there, and is reported. */
export function parseSubid(text: string, path: string): SubidFile {
  const entries: SubidEntry[] = [];
  const problems: string[] = [];
  text.split('\n').forEach((source, index) => {
    const line = index + 1;
    if (/^[ \t]*(#.*)?$/.test(source)) return;
    const [, owner, start, count] = /^([^:\s]+):(0|[1-9][0-9]{0,14}):(0|[1-9][0-9]{0,14})[ \t]*$/.exec(source) ?? [];
    if (owner === undefined || start === undefined || count === undefined) {
      problems.push(`${path} line ${line}: ${JSON.stringify(source)} is not OWNER:START:COUNT in decimal numbers`);
      return;
    }
    const range = { start: Number(start), count: Number(count) };
    const end = Math.min(endOf(range), HIGHEST_ID + 1);
    if (end < endOf(range))
      problems.push(`${path} line ${line}: ${showRange(range)} goes past the highest id ${HIGHEST_ID}`);
    if (range.count === 0) problems.push(`${path} line ${line}: the count is 0`);
    if (end > range.start) entries.push({ owner, line, ...span(range.start, end) });
  });
  return { entries, problems };
}

/** What an owner has: by name and by number, duplicate and adjacent lines merged, ascending. */
export function subidRanges(file: SubidFile, owner: SubidOwner): IdRange[] {
  return union(file.entries.filter(e => isOwner(e, owner)).map(({ start, count }) => ({ start, count })));
}

/** Ids that other owners may use as well, in words. Not an error (root's entry covers others' on purpose at times), worth a notice. */
export function subidOverlaps(file: SubidFile, owner: SubidOwner, path: string): string[] {
  const ours = subidRanges(file, owner);
  const others = Map.groupBy(
    file.entries.filter(e => !isOwner(e, owner)),
    e => e.owner,
  );
  return [...others].flatMap(([name, entries]) => {
    const shared = intersect(ours, entries);
    return shared.length === 0 ? [] : [`${path}: ${name} may use ${showRanges(shared)} too`];
  });
}

function isOwner(entry: SubidEntry, owner: SubidOwner): boolean {
  return entry.owner === owner.name || (owner.uid !== undefined && entry.owner === `${owner.uid}`);
}
