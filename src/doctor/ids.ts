/** The host ids that instances get: our lines in /etc/subuid and /etc/subgid, and what the runtime and others make of them. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readSubidPool, type SubidPool } from '../container/ranges/subid-files.ts';
import { intersect, showRanges } from '../idmap/range.ts';
import { parseSubid, subidOverlaps } from '../idmap/subid.ts';
import { isNodeErrno } from '../kernel/errno.ts';
import { bad, type Check, good, warn } from './check.ts';

const FILES = ['subuid', 'subgid'] as const;
/** Their lines are meant to cover ours: the runtime gives out what root has. */
const RUNTIMES = ['root', 'lxd', '_lxd', 'incus', '_incus'];
const EXAMPLE = '1000000:1000000000';

export type IdOptions = { readonly owner: string; readonly rangeSize: number; readonly etc?: string };

export async function idChecks({ owner, rangeSize, etc = '/etc' }: IdOptions): Promise<Check[]> {
  const [ours, root] = await Promise.all([readSubidPool(owner, { etc }), readSubidPool('root', { etc })]);
  const common = { uid: shared(ours.uid, root.uid), gid: shared(ours.gid, root.gid) };
  return [
    entry(owner, ours, root, etc),
    rootEntry(root, etc),
    ...(has(ours) ? [usable(owner, common, rangeSize, etc)] : []),
    ...unusable([...ours.problems]),
    ...(await othersChecks(owner, etc)),
  ];
}

type Ranges = Pick<SubidPool, 'uid' | 'gid'>;
const has = ({ uid, gid }: Ranges) => uid.length > 0 && gid.length > 0;
/** Where root has none the runtime brings ids of its own, and nothing limits us. */
const shared = (ours: SubidPool['uid'], root: SubidPool['uid']) => (root.length === 0 ? ours : intersect(ours, root));
const append = (line: string, etc: string) => `echo ${line} | tee -a ${FILES.map(f => join(etc, f)).join(' ')}`;

/** What to write for us: root's own range, since the runtime takes nothing else. */
export const proposal = (root: Ranges): string => {
  const [first] = intersect(root.uid, root.gid).toSorted((a, b) => b.count - a.count);
  return first === undefined ? EXAMPLE : `${first.start}:${first.count}`;
};

function entry(owner: string, ours: Ranges, root: Ranges, etc: string): Check {
  if (has(ours)) return good('ids.entry', `"${owner}" has ${showRanges(ours.uid)}`);
  const lacking = [...(ours.uid.length === 0 ? ['subuid'] : []), ...(ours.gid.length === 0 ? ['subgid'] : [])];
  return bad(
    'ids.entry',
    `"${owner}" has no line in ${lacking.map(f => join(etc, f)).join(' and ')}: no instance can be given ids`,
    append(`${owner}:${proposal(root)}`, etc),
  );
}

function rootEntry(root: Ranges, etc: string): Check {
  if (has(root)) return good('ids.root-entry', `root, from whom LXD takes ids, has ${showRanges(root.uid)}`);
  return warn(
    'ids.root-entry',
    `root has no line in ${FILES.map(f => join(etc, f)).join(' and ')}: LXD and Incus then use a range of their own choice, or none`,
    append(`root:${EXAMPLE}`, etc),
  );
}

function usable(owner: string, common: Ranges, rangeSize: number, etc: string): Check {
  const instances = (ranges: SubidPool['uid']) => ranges.reduce((sum, r) => sum + Math.floor(r.count / rangeSize), 0);
  const count = Math.min(instances(common.uid), instances(common.gid));
  if (count > 0) return good('ids.usable', `room for ${count} instances of ${rangeSize} ids`);
  return bad(
    'ids.usable',
    `the ids that both "${owner}" and root have (${showRanges(common.uid)}; groups ${showRanges(common.gid)}) hold no instance of ${rangeSize}`,
    `give both the same line: ${append(`${owner}:${EXAMPLE}`, etc)}; ${append(`root:${EXAMPLE}`, etc)}`,
  );
}

function unusable(problems: readonly string[]): Check[] {
  return problems.length === 0 ? [] : [warn('ids.lines', problems.join('; '), 'correct these lines')];
}

/** Another user's containers (podman, rootless docker) with our ids could read what our instances write. */
async function othersChecks(owner: string, etc: string): Promise<Check[]> {
  const texts: string[] = [];
  for (const name of FILES) {
    const path = join(etc, name);
    const file = parseSubid(await readIfThere(path), path);
    const others = { ...file, entries: file.entries.filter(e => !RUNTIMES.includes(e.owner)) };
    texts.push(...subidOverlaps(others, { name: owner }, path));
  }
  if (texts.length === 0) return [];
  return [warn('ids.overlap', texts.join('; '), `give "${owner}" ids that nobody but root and LXD has`)];
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT')) return '';
    throw error;
  }
}
