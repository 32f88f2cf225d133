/** What LXD is told when a machine is made: pure, and the one place where what comes from outside is checked. */
import { ShiftvolError } from '../../errors.ts';
import type { MachineNetwork, MachineSpec } from '../machines.ts';
import type { Devices, Strings } from './wire.ts';

/** Marks what we made. The value is the version of this layout. */
export const MADE_KEY = 'user.shiftvol.machine';

/**
 * The keys that a flavor may set, and what their values look like. LXD checks the values again; what is not here is refused: with
 * `security.privileged`, `raw.*` or `security.syscalls.intercept.*` a container would get at the host, and `limits.cpu` and
 * `limits.memory` are what the flavor is accounted by.
 */
export const MACHINE_CONFIG = {
  'security.nesting': /^(true|false)$/,
  'limits.cpu.allowance': /^\d+(%|ms\/\d+ms)$/,
  'limits.cpu.priority': /^(10|\d)$/,
  'limits.disk.priority': /^(10|\d)$/,
  'limits.memory.enforce': /^(hard|soft)$/,
  'limits.memory.swap': /^(true|false)$/,
  'limits.memory.swap.priority': /^(10|\d)$/,
  'limits.network.priority': /^(10|\d)$/,
  'limits.processes': /^\d{1,10}$/,
} as const satisfies Record<string, RegExp>;

type Field = { readonly pattern: RegExp; readonly accepted: string };
const NAME: Field = {
  pattern: /^[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]$/,
  accepted: 'letters, digits and "-" are accepted, 2 to 63 of them, a letter first',
};
const UUID: Field = {
  pattern: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/,
  accepted: 'a uuid in lower case is accepted',
};
const HOSTNAME: Field = {
  pattern: /^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$/,
  accepted: 'letters, digits, "-" and "." are accepted, at most 64 of them',
};
const INTERFACE: Field = {
  pattern: /^[A-Za-z][A-Za-z0-9_.-]{0,14}$/,
  accepted: 'the name of a network interface is accepted, at most 15 characters',
};
const MAC: Field = { pattern: /^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$/, accepted: 'six bytes in hex are accepted' };
/** Into LXC's configuration it goes as it is. */
const ROOT_PATH: Field = {
  pattern: /^(\/(?!\.\.?(\/|$))[A-Za-z0-9._-]+)+$/,
  accepted: 'a plain absolute path is accepted',
};
/** Nova's limit of a display name. */
const MAX_LABEL = 255;

/**
 * What LXD makes the container of: its ids as they were reserved, no image, and instead of LXD's own root file system ours.
 * `volatile.last_state.idmap` says that the ids are as they should be, and `security.protection.shift` that LXD must not change them:
 * without these it would chown the whole tree at the first start (seen with 5.0.2).
 * @throws SV_USAGE naming the field
 */
export function instanceOf(spec: MachineSpec, rootPath: string, pool: string) {
  require('name', spec.name, NAME);
  require('uuid', spec.uuid, UUID);
  require('rootPath', rootPath, ROOT_PATH);
  const { start, count } = spec.idRange;
  const hostname = hostnameOf(spec);
  const devices: Devices = { root: { type: 'disk', path: '/', pool }, ...networkDevices(spec.networks) };
  const rootLines = [`lxc.rootfs.path = dir:${rootPath}`, `lxc.uts.name = ${hostname}`];
  const config: Strings = {
    ...limitsOf(spec),
    ...flavorConfig(spec.config ?? {}),
    'boot.autostart': 'false',
    'security.idmap.isolated': 'true',
    'security.idmap.base': String(start),
    'security.idmap.size': String(count),
    'security.protection.shift': 'true',
    'volatile.last_state.idmap': lxdIdmap(start, count),
    'raw.lxc': rootLines.join('\n'),
    [MADE_KEY]: '1',
    'user.nova_uuid': spec.uuid,
    ...(spec.projectId === undefined ? {} : { 'user.nova_project': label(spec.projectId) }),
    'user.meta-data': `instance-id: ${spec.uuid}\nlocal-hostname: ${hostname}\n`,
    ...(spec.userData === undefined ? {} : { 'cloud-init.user-data': spec.userData }),
  };
  return {
    name: spec.name,
    description: label(spec.displayName),
    source: { type: 'none' },
    profiles: [],
    ephemeral: false,
    config,
    devices,
  };
}

/** Where the root file system of a container that we made has to be mounted; undefined for others. */
export function rootPathOf(config: Strings): string | undefined {
  if (config[MADE_KEY] === undefined) return undefined;
  const path = /^lxc\.rootfs\.path = dir:(.*)$/m.exec(config['raw.lxc'] ?? '')?.[1];
  return path !== undefined && ROOT_PATH.pattern.test(path) ? path : undefined;
}

/** @throws SV_USAGE */
export function limitsOf({ vcpus, memoryMb }: { readonly vcpus?: number; readonly memoryMb?: number }): Strings {
  return {
    ...(vcpus === undefined ? {} : { 'limits.cpu': String(positive('vcpus', vcpus)) }),
    ...(memoryMb === undefined ? {} : { 'limits.memory': `${positive('memoryMb', memoryMb)}MiB` }),
  };
}

/** Nothing but what `MACHINE_CONFIG` lists. @throws SV_USAGE */
export function flavorConfig(config: Readonly<Record<string, string>>): Strings {
  const accepted = new Map<string, RegExp>(Object.entries(MACHINE_CONFIG));
  for (const [key, value] of Object.entries(config)) {
    const pattern = accepted.get(key);
    const field = `config.${key}`;
    if (!pattern)
      throw refused(field, key, 'a flavor may not set this key', `${[...accepted.keys()].join(', ')} are accepted`);
    if (!pattern.test(value)) throw refused(field, value, 'it does not fit', `${pattern.source} is accepted`);
  }
  return { ...config };
}

/** The flavor's keys as a change: those that are not in `config` any more are emptied, which removes them. */
export function flavorChange(config: Readonly<Record<string, string>>): Strings {
  const none = Object.fromEntries(Object.keys(MACHINE_CONFIG).map(key => [key, '']));
  return { ...none, ...flavorConfig(config) };
}

/** For people only: what does not fit is no reason to refuse an instance. */
export function label(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, ' ').slice(0, MAX_LABEL);
}

/** Nova gives a whole domain name where the user did; a kernel takes 64 bytes. */
function hostnameOf({ name, hostname = name }: MachineSpec): string {
  const short = hostname.length > 64 ? (hostname.split('.')[0] ?? '') : hostname;
  return require('hostname', short, HOSTNAME);
}

function networkDevices(networks: readonly MachineNetwork[]): Devices {
  const devices = networks.map(({ name, mac, bridge, hostName, mtu }, i) => {
    const field = `networks[${i}]`;
    if (name === 'root') throw refused(`${field}.name`, name, 'that is the disk', 'a name like "eth0" is accepted');
    const nic: Strings = {
      type: 'nic',
      name: require(`${field}.name`, name, INTERFACE),
      hwaddr: require(`${field}.mac`, mac, MAC).toLowerCase(),
      // Without a bridge: a pair of interfaces, whose end on the host is plugged by somebody else.
      ...(bridge === undefined
        ? { nictype: 'p2p' }
        : { nictype: 'bridged', parent: require(`${field}.bridge`, bridge, INTERFACE) }),
      ...(hostName === undefined ? {} : { host_name: require(`${field}.hostName`, hostName, INTERFACE) }),
      ...(mtu === undefined ? {} : { mtu: String(positive(`${field}.mtu`, mtu)) }),
    };
    return [name, nic] as const;
  });
  if (new Set(devices.map(([name]) => name)).size < devices.length)
    throw refused(
      'networks',
      devices.map(([name]) => name).join(' '),
      'a name is there twice',
      'each name once is accepted',
    );
  return Object.fromEntries(devices);
}

/** As LXD writes it, to the letter: it compares what it has read. */
function lxdIdmap(start: number, count: number): string {
  const entry = (kind: 'uid' | 'gid') => ({
    Isuid: kind === 'uid',
    Isgid: kind === 'gid',
    Hostid: start,
    Nsid: 0,
    Maprange: count,
  });
  return JSON.stringify([entry('uid'), entry('gid')]);
}

function positive(field: string, value: number): number {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw refused(field, String(value), 'it is no whole number above 0', 'such a number is accepted');
}

function require(field: string, value: string, { pattern, accepted }: Field): string {
  if (pattern.test(value)) return value;
  throw refused(field, value.slice(0, 80), 'it does not fit', accepted);
}

function refused(field: string, value: string, what: string, accepted: string): ShiftvolError {
  const text = `Cannot make an instance with ${field} ${JSON.stringify(value)}: ${what}, ${accepted}`;
  return new ShiftvolError('SV_USAGE', text, { field });
}
