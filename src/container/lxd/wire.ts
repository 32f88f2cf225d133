/** What LXD answers, read once at the edge. Only what we use is looked at; by hand, since a schema library takes 40 ms to load. */
import { ShiftvolError } from '../../errors.ts';

export type Strings = { readonly [key: string]: string };
export type Devices = { readonly [name: string]: Strings };

export type ServerFacts = {
  /** `LXD` or `Incus`. */
  readonly name: string;
  readonly version: string;
  /** This cluster member's name; `location` of its instances is that, or `none` without a cluster. */
  readonly member: string;
  readonly idmappedMounts: boolean;
  /** Of the daemon, in its own pid namespace: the host's. 0: it does not say. */
  readonly pid: number;
};

export type LxdInstance = {
  readonly name: string;
  readonly project: string;
  readonly type: string;
  /** `Running`, `Stopped`, `Frozen`, `Error`, and others on the way */
  readonly status: string;
  readonly running: boolean;
  readonly location: string;
  readonly config: Strings;
  readonly devices: Devices;
  /** With what comes from profiles. */
  readonly expandedConfig: Strings;
  readonly expandedDevices: Devices;
  readonly description: string;
  /** What a PUT has to send back, as it came. */
  readonly writable: { readonly [key: string]: unknown };
};

export function serverFacts(metadata: unknown): ServerFacts {
  const environment = member(metadata, 'environment');
  const features = member(environment, 'kernel_features', {});
  const server = text(environment, 'server', 'lxd');
  return {
    name: server === 'incus' ? 'Incus' : server === 'lxd' ? 'LXD' : server,
    version: text(environment, 'server_version'),
    member: text(environment, 'server_name'),
    idmappedMounts: text(features, 'idmapped_mounts', 'false') === 'true',
    pid: number(environment, 'server_pid'),
  };
}

const WRITABLE = ['architecture', 'config', 'devices', 'ephemeral', 'profiles', 'stateful', 'description'] as const;

export function lxdInstance(metadata: unknown): LxdInstance {
  if (!isRecord(metadata)) throw unexpected('an instance', metadata);
  const status = text(metadata, 'status');
  return {
    name: text(metadata, 'name'),
    project: text(metadata, 'project', 'default'),
    type: text(metadata, 'type', 'container'),
    status,
    running: status === 'Running' || status === 'Frozen',
    location: text(metadata, 'location', 'none'),
    config: strings(metadata['config']),
    devices: devices(metadata['devices']),
    expandedConfig: strings(metadata['expanded_config']),
    expandedDevices: devices(metadata['expanded_devices']),
    description: text(metadata, 'description', ''),
    writable: Object.fromEntries(WRITABLE.filter(key => key in metadata).map(key => [key, metadata[key]])),
  };
}

export function lxdInstances(metadata: unknown): readonly LxdInstance[] {
  if (!Array.isArray(metadata)) throw unexpected('a list of instances', metadata);
  return metadata.map(lxdInstance);
}

export type NetworkState = {
  readonly name: string;
  readonly mac: string;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly txPackets: number;
};

export type InstanceState = {
  readonly status: string;
  readonly pid: number | undefined;
  readonly cpuNs: number;
  readonly memoryBytes: number;
  readonly memoryPeakBytes: number;
  readonly processes: number;
  readonly networks: readonly NetworkState[];
};

/** What runs in an instance just now; what LXD does not tell is 0. */
export function instanceState(metadata: unknown): InstanceState {
  if (!isRecord(metadata)) throw unexpected('the state of an instance', metadata);
  const memory = member(metadata, 'memory', {});
  // null where it is stopped
  const network = isRecord(metadata['network']) ? metadata['network'] : {};
  return {
    status: text(metadata, 'status'),
    pid: initPid(metadata),
    cpuNs: number(member(metadata, 'cpu', {}), 'usage'),
    memoryBytes: number(memory, 'usage'),
    memoryPeakBytes: number(memory, 'usage_peak'),
    processes: number(metadata, 'processes'),
    networks: Object.entries(network)
      .filter(([name]) => name !== 'lo')
      .map(([name, facts]) => {
        const counters = member(facts, 'counters', {});
        return {
          name,
          mac: isRecord(facts) ? text(facts, 'hwaddr', '') : '',
          rxBytes: number(counters, 'bytes_received'),
          txBytes: number(counters, 'bytes_sent'),
          rxPackets: number(counters, 'packets_received'),
          txPackets: number(counters, 'packets_sent'),
        };
      }),
  };
}

/** Directory of a pool of driver `dir`. */
export function poolSource(metadata: unknown): { readonly driver: string; readonly source: string } {
  if (!isRecord(metadata)) throw unexpected('a storage pool', metadata);
  return { driver: text(metadata, 'driver'), source: strings(metadata['config'])['source'] ?? '' };
}

export function initPid(metadata: unknown): number | undefined {
  const pid = isRecord(metadata) ? metadata['pid'] : undefined;
  return typeof pid === 'number' && Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
}

export type Json = { readonly [key: string]: unknown };

export function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function member(value: unknown, key: string, fallback?: Json): Json {
  const found = isRecord(value) ? (value[key] ?? fallback) : undefined;
  if (!isRecord(found)) throw unexpected(`"${key}"`, value);
  return found;
}

function text(value: Json, key: string, fallback?: string): string {
  const found = value[key] ?? fallback;
  if (typeof found !== 'string') throw unexpected(`"${key}"`, value);
  return found;
}

/** -1 is LXD's word for "cannot tell" in places. */
function number(value: Json, key: string): number {
  const found = value[key];
  return typeof found === 'number' && found > 0 ? found : 0;
}

function strings(value: unknown): Strings {
  if (!isRecord(value)) return {};
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, String(v)]));
}

function devices(value: unknown): Devices {
  if (!isRecord(value)) return {};
  return Object.fromEntries(Object.entries(value).map(([name, device]) => [name, strings(device)]));
}

function unexpected(what: string, value: unknown): ShiftvolError {
  return new ShiftvolError(
    'SV_RUNTIME',
    `Cannot read ${what} in LXD's answer: ${JSON.stringify(value)?.slice(0, 200)}`,
  );
}
