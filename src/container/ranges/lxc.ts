import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RangeSource, UsedRange } from '../../engine/ports.ts';
import { isError } from '../../errors.ts';
import { checkIdmap } from '../../idmap/check.ts';
import { parseIdmap } from '../../idmap/parse.ts';
import { isNodeErrno } from '../../kernel/errno.ts';

export type LxcRanges = {
  readonly used: readonly UsedRange[];
  /** Lines that could not be understood or were not followed, in words, for `doctor`. */
  readonly notices: readonly string[];
};

/** The host ids of plain LXC's containers, running or not, by their own configuration files. */
export function lxcContainers(options: { path?: string } = {}): RangeSource {
  return {
    name: 'LXC configurations',
    usedRanges: async signal => (await readLxcRanges({ ...options, ...(signal === undefined ? {} : { signal }) })).used,
  };
}

/** The same with what was left aside. No such directory: no containers. `path` is LXC's lxcpath, /var/lib/lxc by default. */
export async function readLxcRanges(options: { path?: string; signal?: AbortSignal } = {}): Promise<LxcRanges> {
  const path = options.path ?? '/var/lib/lxc';
  const used: UsedRange[] = [];
  const notices: string[] = [];
  for (const name of (await found(readdir(path))) ?? []) {
    options.signal?.throwIfAborted();
    const file = join(path, name, 'config');
    const text = await found(readFile(file, 'utf8'));
    if (text === undefined) continue;
    const config = parseLxcConfig(text, file, `lxc:${name}`);
    used.push(...config.used);
    notices.push(...config.notices);
  }
  return { used, notices };
}

/** Idmap lines of one lxc.container.conf(5). Included files are not followed; those of the distribution carry no idmap. */
export function parseLxcConfig(text: string, file: string, owner: string): LxcRanges {
  const used: UsedRange[] = [];
  const notices: string[] = [];
  text.split('\n').forEach((source, index) => {
    const [key = '', ...rest] = source.trim().split('=');
    const where = `${file} line ${index + 1}`;
    const value = rest.join('=').trim();
    if (/^lxc\.include\s*$/.test(key) && !value.startsWith('/usr/share/lxc/config/'))
      notices.push(`${where}: ${JSON.stringify(value)} is not followed, idmaps in there are not known`);
    // An empty value clears what stood before (lxc.container.conf(5)): what is cleared counts all the same, to be on the safe side.
    if (!/^lxc\.id_?map\s*$/.test(key) || value === '') return;
    try {
      const map = parseIdmap(source.trim(), { form: 'lxc' });
      const wrong = checkIdmap(map, { anyHostId: true }).find(p => p.severity === 'error');
      if (wrong !== undefined) notices.push(`${where}: ${wrong.text}`);
      else used.push(...map.map(({ kind, hostId, count }) => ({ kind, start: hostId, count, owner })));
    } catch (error) {
      if (!isError(error, 'SV_IDMAP_SYNTAX', 'SV_IDMAP_INVALID')) throw error;
      notices.push(`${where}: ${error.message}`);
    }
  });
  return { used, notices };
}

async function found<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}
