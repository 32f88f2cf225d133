/** Which container runtime the distribution has: LXD (Debian 12), or Incus, its successor with the same API (Debian 13, Ubuntu). */
import { existsSync } from 'node:fs';

export type RuntimeDaemon = {
  readonly name: 'LXD' | 'Incus';
  readonly program: string;
  /** The command line client. */
  readonly client: 'lxc' | 'incus';
  /** Variables that name the daemon's directory, and the client's. */
  readonly dirVariable: 'LXD_DIR' | 'INCUS_DIR';
  readonly confVariable: 'LXD_CONF' | 'INCUS_CONF';
};

const LXD = {
  name: 'LXD',
  program: 'lxd',
  client: 'lxc',
  dirVariable: 'LXD_DIR',
  confVariable: 'LXD_CONF',
} as const satisfies RuntimeDaemon;
const INCUS = {
  name: 'Incus',
  program: 'incusd',
  client: 'incus',
  dirVariable: 'INCUS_DIR',
  confVariable: 'INCUS_CONF',
} as const satisfies RuntimeDaemon;
/** Packagers are asked to keep the daemon out of the PATH. */
const INCUS_PROGRAMS = [
  '/usr/libexec/incus/incusd',
  '/usr/lib/incus/incusd',
  '/opt/incus/bin/incusd',
  '/usr/bin/incusd',
];

/** LXD where there is one, else Incus. LXD too where there is neither: its start then says so. */
export function findRuntimeDaemon(): RuntimeDaemon {
  const program = existsSync('/usr/bin/lxd') ? undefined : INCUS_PROGRAMS.find(path => existsSync(path));
  return program === undefined ? LXD : { ...INCUS, program };
}
