/** Who we are on this host: capabilities, namespaces, limits, and the way to the root file systems. */
import { readFileSync, readlinkSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { hasCapability } from '../kernel/capability.ts';
import { isNodeErrno } from '../kernel/errno.ts';
import { bad, type Check, good, warn } from './check.ts';

/** Bits of capabilities(7), and what each is for. */
const NEEDED = {
  DAC_OVERRIDE: 1,
  DAC_READ_SEARCH: 2,
  SETGID: 6,
  SETUID: 7,
  SYS_CHROOT: 18,
  SYS_PTRACE: 19,
  SYS_ADMIN: 21,
  SETFCAP: 31,
} as const;
/** What the agent can do without, and what is missed then. SYSLOG is told with its own remedy. */
const WANTED = {
  CHOWN: { bit: 0, without: 'directories and archives cannot be imported with their owners' },
  FOWNER: { bit: 3, without: 'directories and archives cannot be imported with their modes' },
  FSETID: { bit: 4, without: 'what is imported loses its setgid bits' },
  LINUX_IMMUTABLE: { bit: 9, without: 'templates are not protected against being written to' },
  SYSLOG: { bit: 34, without: 'the kernel’s reasons for refusing an image stay in its log' },
} as const;
/** The initial namespaces have these inode numbers (include/linux/proc_ns.h). */
const INITIAL_USER = 'user:[4026531837]';
const INITIAL_PID = 'pid:[4026531836]';
/** Descriptors: one a cached map, one a connection, some for loop devices that are being made. */
const LOW_NOFILE = 4096;
const LOW_MOUNTS = 10_000;
const LOW_NAMESPACES = 1000;

/** `proc`, for tests: another /proc. */
export function hostChecks(rootsDir: string, proc = '/proc'): Check[] {
  return [capabilities(proc), growing(proc), namespaces(proc), searchable(rootsDir), ...limits(proc)];
}

function capabilities(proc: string): Check {
  const check = 'host.capabilities';
  const has = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(read(proc, 'self/status') ?? '')?.[1] ?? '0'}`);
  const lacking = (bits: Readonly<Record<string, number>>) =>
    Object.entries(bits)
      .filter(([, bit]) => ((has >> BigInt(bit)) & 1n) === 0n)
      .map(([name]) => `CAP_${name}`);
  const missing = lacking(NEEDED);
  if (missing.length > 0)
    return bad(
      check,
      `missing: ${missing.join(' ')}`,
      'run shiftvol as root, in a container with these capabilities added (or privileged)',
    );
  const missed = Object.entries(WANTED).filter(([, { bit }]) => ((has >> BigInt(bit)) & 1n) === 0n);
  if (missed.length > 0)
    return warn(check, missed.map(([name, { without }]) => `CAP_${name} is missing: ${without}`).join('; '), 'add it');
  return good(check, 'all that are needed');
}

function growing(proc: string): Check {
  const check = 'host.grow-ext4';
  if (hasCapability(proc, 'SYS_RESOURCE')) return good(check, 'an ext4 in use can be grown');
  return warn(
    check,
    'CAP_SYS_RESOURCE is missing: an ext4 that an instance uses cannot be grown',
    'add it; or stop the instance to extend what it has, or use XFS',
  );
}

function namespaces(proc: string): Check {
  const check = 'host.namespaces';
  const user = readlinkSync(join(proc, 'self/ns/user'));
  const pid = readlinkSync(join(proc, 'self/ns/pid'));
  if (user !== INITIAL_USER)
    return bad(check, `in ${user}, not the host’s user namespace`, 'run shiftvol on the host itself');
  if (pid !== INITIAL_PID)
    return bad(
      check,
      `in ${pid}, not the host’s pid namespace: holders of a busy mount cannot be named, ids in use not be seen`,
      'run shiftvol with the host’s pid namespace (hostPID, --pid=host)',
    );
  return good(check, 'the host’s user and pid namespaces');
}

function limits(proc: string): Check[] {
  const nofile = /^Max open files\s+(\S+)/m.exec(read(proc, 'self/limits') ?? '')?.[1] ?? '0';
  const setting = (path: string) => Number(read(proc, `sys/${path}`)?.trim() ?? Number.NaN);
  const namespaces = setting('user/max_user_namespaces');
  const mounts = setting('fs/mount-max');
  return [
    namespaces === 0
      ? bad('limits.user-namespaces', 'user.max_user_namespaces is 0', 'sysctl -w user.max_user_namespaces=100000')
      : atLeast('limits.user-namespaces', namespaces, LOW_NAMESPACES, 'user.max_user_namespaces', 100_000),
    atLeast('limits.mounts', mounts, LOW_MOUNTS, 'fs.mount-max', 100_000),
    nofile === 'unlimited' || Number(nofile) >= LOW_NOFILE
      ? good('limits.open-files', `${nofile} open files`)
      : warn('limits.open-files', `only ${nofile} open files`, 'ulimit -n 65536, or LimitNOFILE= in the unit'),
  ];
}

function atLeast(check: Check['check'], value: number, low: number, name: string, advice: number): Check {
  if (Number.isNaN(value)) return warn(check, `${name} cannot be read`);
  return value >= low
    ? good(check, `${name} is ${value}`)
    : warn(check, `${name} is only ${value}`, `sysctl -w ${name}=${advice}`);
}

/** LXC opens a root file system's path from inside the container's user namespace: everybody must be able to walk there. */
function searchable(rootsDir: string): Check {
  const check = 'host.path-to-roots';
  const closed = ancestors(rootsDir).filter(path => {
    const mode = statSync(path, { throwIfNoEntry: false })?.mode;
    return mode !== undefined && (mode & 0o001) === 0;
  });
  if (closed.length === 0) return good(check, `others can walk to ${rootsDir}`);
  return warn(
    check,
    `others cannot walk to ${rootsDir}: root file systems made by "spawn" could not be opened by the runtime`,
    `chmod o+x ${closed.join(' ')}`,
  );
}

function ancestors(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [...ancestors(parent), path];
}

function read(proc: string, path: string): string | undefined {
  try {
    return readFileSync(join(proc, path), 'utf8');
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'EACCES')) return undefined;
    throw error;
  }
}
