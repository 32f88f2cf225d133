import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One line of /proc/PID/mountinfo. @see proc_pid_mountinfo(5) */
export type MountInfo = {
  /** Used again once the mount is gone; the same number as `mnt_id` in /proc/PID/fdinfo. */
  readonly mountId: number;
  readonly parentId: number;
  /** Of the superblock, `7:3`; anonymous (`0:45`) for btrfs. */
  readonly devno: string;
  /** Directory of the file system that is shown, `/`. */
  readonly root: string;
  readonly point: string;
  /** Of this mount: `rw`, `nodev`, `idmapped` */
  readonly options: readonly string[];
  readonly fsType: string;
  readonly source: string;
  /** Of the superblock. */
  readonly superOptions: readonly string[];
};

/** In the order of the table: of several mounts at one point the last is on top. @throws what Node's fs throws: ENOENT, EINVAL for a process that ends */
export function readMountinfo(procRoot: string, pid: number | string = 'self'): readonly MountInfo[] {
  return parseMountinfo(readFileSync(join(procRoot, String(pid), 'mountinfo'), 'utf8'));
}

/** Lines that are not of the format are left out. */
export function parseMountinfo(text: string): readonly MountInfo[] {
  return text.split('\n').flatMap(line => parseLine(line) ?? []);
}

/** The mount that a path leads to, where one begins exactly there. */
export function topmostAt(mounts: readonly MountInfo[], point: string): MountInfo | undefined {
  return mounts.findLast(m => m.point === point);
}

/** `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`; the fields before the dash vary in number. */
function parseLine(line: string): MountInfo | undefined {
  const fields = line.split(' ');
  const dash = fields.indexOf('-', 6);
  const [mountId, parentId, devno, root, point, options] = fields;
  const [fsType, source, superOptions] = fields.slice(dash + 1);
  if (dash === -1 || mountId === undefined || parentId === undefined || devno === undefined) return undefined;
  if (root === undefined || point === undefined || options === undefined) return undefined;
  if (fsType === undefined || source === undefined) return undefined;
  return {
    mountId: Number(mountId),
    parentId: Number(parentId),
    devno,
    root: unescapeOctal(root),
    point: unescapeOctal(point),
    options: options.split(','),
    fsType: unescapeOctal(fsType),
    source: unescapeOctal(source),
    superOptions: (superOptions ?? '').split(','),
  };
}

/** The kernel writes space, tab, newline, backslash and `#` as three octal digits. */
function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
