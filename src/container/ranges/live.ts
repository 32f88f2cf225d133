import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { RangeSource, UsedRange } from '../../engine/ports.ts';
import { ShiftvolError } from '../../errors.ts';
import { type Extent, LOWEST_HOST_ID } from '../../idmap/idmap.ts';
import { parseProcMaps } from '../../idmap/parse.ts';
import { isNodeErrno } from '../../kernel/errno.ts';

/** Processes that are looked at side by side. libuv's pool has four threads; more in flight only cost memory. */
const BATCH = 64;

/**
 * The host ids of every user namespace that has a process, whoever made it: LXD, LXC, podman, systemd, unshare. One that nothing but a
 * mount or a descriptor keeps alive has no entry in /proc and is not seen.
 */
export function liveUserNamespaces(options: { proc?: string } = {}): RangeSource {
  const proc = options.proc ?? '/proc';
  return {
    name: 'user namespaces',
    usedRanges: signal => usedRanges(proc, signal),
  };
}

async function usedRanges(proc: string, signal: AbortSignal | undefined): Promise<readonly UsedRange[]> {
  const own = await gone(readlink(join(proc, 'self/ns/user')));
  const pids = (await readdir(proc)).filter(name => /^[1-9][0-9]*$/.test(name));
  const seen = new Set<string>(own === undefined ? [] : [own]);
  const found: UsedRange[] = [];
  for (let i = 0; i < pids.length; i += BATCH) {
    signal?.throwIfAborted();
    const namespaces = await Promise.all(
      pids.slice(i, i + BATCH).map(async pid => ({ pid, link: await gone(readlink(join(proc, pid, 'ns/user'))) })),
    );
    for (const { pid, link } of namespaces) {
      if (link === undefined || seen.has(link)) continue;
      const ranges = await rangesOf(proc, pid, link);
      // A process that went between readlink and read: another one of the same namespace may follow.
      if (ranges === undefined) continue;
      seen.add(link);
      found.push(...ranges);
    }
  }
  return found;
}

async function rangesOf(proc: string, pid: string, link: string): Promise<UsedRange[] | undefined> {
  const read = (file: string) => gone(readFile(join(proc, pid, file), 'utf8'));
  const [uidMap, gidMap, comm] = await Promise.all([read('uid_map'), read('gid_map'), read('comm')]);
  if (uidMap === undefined || gidMap === undefined) return undefined;
  const owner = `${link} (pid ${pid}${comm === undefined ? '' : `, ${comm.trimEnd()}`})`;
  return parseProcMaps(uidMap, gidMap).filter(isClaim).map(used(owner));
}

/**
 * A namespace that shows the host's own users as themselves (`unshare --map-users=all`, systemd's PrivateUsers=identity) borrows all
 * ids and owns none; counted as a claim it would leave nothing for anybody.
 */
function isClaim(extent: Extent): boolean {
  return !(extent.hostId < LOWEST_HOST_ID && Number(extent.fsId) === extent.hostId);
}

function used(owner: string): (extent: Extent) => UsedRange {
  return ({ kind, hostId, count }) => ({ kind, start: hostId, count, owner });
}

/** The result, or undefined where the process is gone (ENOENT, ESRCH) or has no user namespace any more (a zombie: ENOENT). */
async function gone<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    if (isNodeErrno(error, 'EACCES', 'EPERM'))
      throw new ShiftvolError(
        'SV_HOST',
        'Cannot look at all user namespaces of this host: not permitted, root is needed',
        {
          cause: error,
        },
      );
    throw error;
  }
}
