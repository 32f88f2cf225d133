/** What of doctor's findings can be put right without harm: things that are made, nothing that is changed or removed. */
import { appendFileSync, mkdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Config } from '../config/schema.ts';
import { readSubidPool } from '../container/ranges/subid-files.ts';
import { isNodeErrno } from '../kernel/errno.ts';
import { createPool, SMALLEST_POOL } from '../storage/pool.ts';
import { runTool } from '../storage/tool.ts';
import type { Check } from './check.ts';
import { proposal } from './ids.ts';

export type Fix = {
  /** The finding that it is for. */
  readonly check: Check['check'];
  /** All that it does, as an imperative. */
  readonly says: string;
  run(signal: AbortSignal): Promise<void>;
};
type Where = Pick<Config, 'stateDir' | 'runDir' | 'poolDir' | 'subidOwner'>;

const GIB = 2 ** 30;
/** Of a sparse image: what is written to it is what it takes. */
const POOL_BYTES = 20 * GIB;
const DIRECTORY_MODES = { stateDir: 0o700, runDir: 0o711 } as const;

/** `etc`: for tests. */
export async function fixesFor(checks: readonly Check[], where: Where, etc = '/etc'): Promise<readonly Fix[]> {
  const failed = new Set(checks.filter(c => c.ok === false).map(c => c.check));
  return [
    ...directories(where),
    ...(failed.has('kernel.loop') ? [loopModule()] : []),
    ...(failed.has('ids.entry') ? await ids(where.subidOwner, etc) : []),
    ...(failed.has('pool.status') ? pool(where) : []),
  ];
}

function directories(where: Where): readonly Fix[] {
  return (['stateDir', 'runDir'] as const)
    .filter(name => statSync(where[name], { throwIfNoEntry: false }) === undefined)
    .map(name => ({
      check: 'host.configuration',
      says: `make the directory ${where[name]} (mode ${DIRECTORY_MODES[name].toString(8)})`,
      run: async () => void mkdirSync(where[name], { recursive: true, mode: DIRECTORY_MODES[name] }),
    }));
}

const loopModule = (): Fix => ({
  check: 'kernel.loop',
  says: 'load the kernel module "loop" (modprobe loop)',
  run: async signal => void (await runTool('modprobe', ['loop'], { signal })),
});

/** The same line in both files, and in root's name too where root has none. Nothing where others have these ids: a person must choose. */
async function ids(owner: string, etc: string): Promise<readonly Fix[]> {
  const [ours, root] = await Promise.all([readSubidPool(owner, { etc }), readSubidPool('root', { etc })]);
  const range = proposal(root);
  if (taken(range, owner, etc)) return [];
  const owners = [...(root.uid.length === 0 && root.gid.length === 0 ? ['root'] : []), owner];
  return (['subuid', 'subgid'] as const).flatMap(name => {
    const path = join(etc, name);
    const has = (who: string) => (who === owner ? ours : root)[name === 'subuid' ? 'uid' : 'gid'].length > 0;
    const lines = owners.filter(who => !has(who)).map(who => `${who}:${range}`);
    if (lines.length === 0) return [];
    return [
      {
        check: 'ids.entry',
        says: `append ${lines.map(line => `"${line}"`).join(' and ')} to ${path}`,
        run: async () => append(path, lines),
      } as const,
    ];
  });
}

/** By another user than root and the runtimes, whose lines are meant to cover ours. */
function taken(range: string, owner: string, etc: string): boolean {
  const [start = 0, count = 0] = range.split(':').map(Number);
  const mayShare = new Set(['root', 'lxd', '_lxd', 'incus', '_incus', owner]);
  return ['subuid', 'subgid'].some(name =>
    readIfThere(join(etc, name))
      .split('\n')
      .some(line => {
        const [who = '', from = '', size = ''] = line.split(':');
        return !mayShare.has(who) && Number(from) < start + count && Number(from) + Number(size) > start;
      }),
  );
}

function append(path: string, lines: readonly string[]): void {
  const before = readIfThere(path);
  appendFileSync(path, `${before === '' || before.endsWith('\n') ? '' : '\n'}${lines.join('\n')}\n`, { mode: 0o644 });
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT')) return '';
    throw error;
  }
}

/** Where there is none. At most half of what is free. */
function pool(where: Where): readonly Fix[] {
  if (statSync(join(where.stateDir, 'pool.img'), { throwIfNoEntry: false })) return [];
  const { bavail, bsize } = statfsSync(nearest(where.stateDir));
  const sizeBytes = Math.min(POOL_BYTES, Math.floor((bavail * bsize) / 2 / GIB) * GIB);
  if (sizeBytes < SMALLEST_POOL) return [];
  return [
    {
      check: 'pool.status',
      says: `make a pool of ${sizeBytes / GIB} GiB in the sparse file ${join(where.stateDir, 'pool.img')}, mounted at ${where.poolDir}`,
      run: async signal => void (await createPool(where, { sizeBytes, signal })),
    },
  ];
}

const nearest = (path: string): string =>
  statSync(path, { throwIfNoEntry: false }) || dirname(path) === path ? path : nearest(dirname(path));
