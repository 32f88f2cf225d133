import { join } from 'node:path';
import type { HostRanges } from '../../idmap/check.ts';
import { parseSubid, type SubidOwner, subidOverlaps, subidRanges } from '../../idmap/subid.ts';
import { readIfThere } from '../../kernel/read-if-there.ts';

export type SubidPool = HostRanges & {
  /** Lines that cannot be used, and ranges that come from elsewhere and are not read. */
  readonly problems: readonly string[];
  /** Other owners that may use the same ids. */
  readonly overlaps: readonly string[];
};

/**
 * The host ids that /etc/subuid and /etc/subgid give to an owner, by name and by number (from /etc/passwd). No such file: no ids.
 * `etc` is the directory to look in.
 */
export async function readSubidPool(ownerName: string, options: { etc?: string } = {}): Promise<SubidPool> {
  const etc = options.etc ?? '/etc';
  const text = (name: string) => readIfThere(join(etc, name));
  const [subuid, subgid, passwd, nsswitch] = await Promise.all(
    ['subuid', 'subgid', 'passwd', 'nsswitch.conf'].map(text),
  );
  const owner = ownerOf(ownerName, passwd ?? '');
  const uidPath = join(etc, 'subuid');
  const gidPath = join(etc, 'subgid');
  const uids = parseSubid(subuid ?? '', uidPath);
  const gids = parseSubid(subgid ?? '', gidPath);
  return {
    uid: subidRanges(uids, owner),
    gid: subidRanges(gids, owner),
    problems: [...uids.problems, ...gids.problems, ...foreignSource(nsswitch ?? '', join(etc, 'nsswitch.conf'))],
    overlaps: [...subidOverlaps(uids, owner, uidPath), ...subidOverlaps(gids, owner, gidPath)],
  };
}

function ownerOf(name: string, passwd: string): SubidOwner {
  const uid = passwd
    .split('\n')
    .map(line => line.split(':'))
    .find(([user]) => user === name)?.[2];
  return uid !== undefined && /^[0-9]+$/.test(uid) ? { name, uid: Number(uid) } : { name };
}

/** shadow asks one NSS module instead of the files where nsswitch.conf has a `subid:` line that does not say "files". */
function foreignSource(nsswitch: string, path: string): string[] {
  const source = /^[ \t]*subid:[ \t]*(\S+)/m.exec(nsswitch)?.[1];
  return source === undefined || source === 'files'
    ? []
    : [`${path}: subordinate ids come from "${source}"; only the files are read`];
}
