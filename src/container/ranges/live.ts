import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { RangeSource, UsedRange } from '../../engine/ports.ts';
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
  const own = await namespaceOf(proc, 'self');
  const pids = (await readdir(proc)).filter(name => /^[1-9][0-9]*$/.test(name));
  const seen = new Set<string>(own === undefined ? [] : [own]);
  const found: UsedRange[] = [];
  for (let i = 0; i < pids.length; i += BATCH) {
    signal?.throwIfAborted();
    const batch = pids.slice(i, i + BATCH);
    const links = await Promise.all(batch.map(pid => namespaceOf(proc, pid)));
    for (const [index, pid] of batch.entries()) {
      const link = links[index];
      if (link === undefined || seen.has(link)) continue;
      const ranges = await rangesOf(proc, pid, link);
      // A process that went between the two looks is no reason to pass over the others of its namespace.
      if (ranges === undefined) continue;
      seen.add(link);
      found.push(...ranges);
    }
  }
  return found;
}

/**
 * `user:[4026531837]`, or undefined for a process that is gone or has no namespace any more (a zombie: ENOENT). The link is under
 * ptrace's rules, the maps are not: a process that even root may not look at (it has a capability that we lack) is told by its pid.
 */
async function namespaceOf(proc: string, pid: string): Promise<string | undefined> {
  try {
    return await unlessGone(readlink(join(proc, pid, 'ns/user')));
  } catch (error) {
    if (isNodeErrno(error, 'EACCES', 'EPERM')) return `user namespace of pid ${pid}`;
    throw error;
  }
}

async function rangesOf(proc: string, pid: string, link: string): Promise<UsedRange[] | undefined> {
  const read = (file: string) => unlessGone(readFile(join(proc, pid, file), 'utf8'));
  const [uidMap, gidMap, comm] = await Promise.all([read('uid_map'), read('gid_map'), read('comm')]);
  if (uidMap === undefined || gidMap === undefined) return undefined;
  const owner = `${link} (pid ${pid}${comm === undefined ? '' : `, ${comm.trimEnd()}`})`;
  return parseProcMaps(withoutForeign(uidMap), withoutForeign(gidMap))
    .filter(isClaim)
    .map(({ kind, hostId, count }) => ({ kind, start: hostId, count, owner }));
}

/**
 * A namespace that shows the host's own users as themselves (the host's own; `unshare --map-users=all`; systemd's
 * PrivateUsers=identity) borrows all ids and owns none; counted as a claim it would leave nothing for anybody.
 */
function isClaim(extent: Extent): boolean {
  return !(extent.hostId < LOWEST_HOST_ID && Number(extent.fsId) === extent.hostId);
}

/** Lines whose outside is no id of ours (4294967295: we run in a user namespace ourselves, and that one reaches out of it). */
function withoutForeign(map: string): string {
  return map.replace(/^ *\d+ +4294967295 +\d+\n/gm, '');
}

async function unlessGone<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
