/** What this host tells Nova of itself. */
import { ShiftvolError } from '../errors.ts';
import type { Call, Nova } from './ports.ts';
import type { Args } from './wire.ts';

export async function getAvailableResource(nova: Nova, _: Args<'get_available_resource'>, { signal }: Call) {
  const [has, runtime, machines] = await Promise.all([
    nova.facts.resources(),
    nova.facts.runtime(signal),
    nova.machines.list(signal),
  ]);
  const { arch, cpu } = has;
  return {
    vcpus: has.vcpus,
    memory_mb: has.memoryMb,
    local_gb: has.diskGb,
    vcpus_used: machines.reduce((sum, { vcpus }) => sum + vcpus, 0),
    memory_mb_used: has.memoryUsedMb,
    local_gb_used: has.diskUsedGb,
    disk_available_least: has.diskFreeGb,
    cpu_info: {
      arch,
      model: cpu.model,
      vendor: cpu.vendor,
      topology: { sockets: cpu.sockets, cores: cpu.cores, threads: cpu.threads },
      features: [],
    },
    hypervisor_type: runtime.name.toLowerCase(),
    hypervisor_version: versionNumber(runtime.version),
    hypervisor_hostname: nova.host,
    supported_instances: [[arch, 'lxd', 'exe']],
    numa_topology: null,
  };
}

/** As libvirt's: 5.0.2 is 5000002. What is no number is 0. */
export function versionNumber(version: string): number {
  const [major = 0, minor = 0, micro = 0] = version.split('.').map(part => Number.parseInt(part, 10) || 0);
  return major * 1_000_000 + minor * 1000 + micro;
}

export async function getHostIp(nova: Nova, { signal }: Call): Promise<string> {
  const { ip } = await nova.connectors.properties(signal);
  if (typeof ip === 'string') return ip;
  throw new ShiftvolError('SV_HOST', 'Cannot tell the address of this host: it has no way to another one');
}

/** As `uptime` has it, as far as Nova shows it. */
export async function getHostUptime(nova: Nova): Promise<string> {
  const seconds = await nova.facts.uptimeS();
  const [days, hours, minutes] = [86_400, 3600, 60].map((unit, i, all) =>
    Math.floor((seconds % (all[i - 1] ?? Number.POSITIVE_INFINITY)) / unit),
  );
  return `up ${days} days, ${hours}:${String(minutes).padStart(2, '0')}`;
}

export async function listInstances(nova: Nova, { signal }: Call): Promise<readonly string[]> {
  return (await nova.machines.list(signal)).map(({ name }) => name);
}

export async function listInstanceUuids(nova: Nova, { signal }: Call): Promise<readonly string[]> {
  return (await nova.machines.list(signal)).map(({ uuid }) => uuid);
}
