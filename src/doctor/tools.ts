/** Helper programs: none is on the way of an attach; each is wanted by some command only. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { isNodeErrno } from '../kernel/errno.ts';
import { type Check, good, warn } from './check.ts';

/** Program, Debian's package, and what is missed without it. */
const TOOLS = [
  ['mke2fs', 'e2fsprogs', 'template import --fs ext4'],
  ['e2fsck', 'e2fsprogs', 'template import of ext4 images'],
  ['tune2fs', 'e2fsprogs', 'template import of ext4 images'],
  ['mkfs.xfs', 'xfsprogs', 'pool create; template import --fs xfs'],
  ['xfs_repair', 'xfsprogs', 'template import of xfs images'],
  ['xfs_growfs', 'xfsprogs', 'pool grow'],
  ['mkfs.btrfs', 'btrfs-progs', 'template import --fs btrfs'],
  ['btrfs', 'btrfs-progs', 'template import of btrfs images'],
  ['qemu-img', 'qemu-utils', 'template import of qcow2 images'],
  ['tar', 'tar', 'template import of directories and tars'],
  ['find', 'findutils', 'template import'],
] as const;
/** As storage/tool.ts looks for them. */
const SYSTEM_PATH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** One check for all that are there, one for each package that is not. */
export function toolChecks(path: readonly string[] = SYSTEM_PATH): Check[] {
  const missing = TOOLS.filter(([tool]) => !path.some(dir => isProgram(join(dir, tool))));
  const packages = Map.groupBy(missing, ([, wanted]) => wanted);
  const there = TOOLS.filter(t => !missing.includes(t)).map(([tool]) => tool);
  return [
    ...(there.length === 0 ? [] : [good('tools.installed', there.join(', '))]),
    ...[...packages].map(([wanted, tools]) =>
      warn(
        `tools.${wanted}`,
        tools.map(([tool, , use]) => `${tool} is missing: wanted by ${use}`).join('; '),
        `apt-get install ${wanted}`,
      ),
    ),
  ];
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return false;
    throw error;
  }
}
