/** What this host has, by /proc, its cgroup and the pool's file system. */
import { readFile, statfs } from 'node:fs/promises';
import { readIfThere } from '../kernel/read-if-there.ts';
import type { Resources } from './ports.ts';

export type ResourceRoots = { readonly proc: string; readonly cgroup: string; readonly poolDir: string };

const GIB = 2 ** 30;
const MIB = 2 ** 20;
/** As `uname -m` has them. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64', ppc64: 'ppc64le' };

/**
 * In whole MiB and GiB, rounded down. Where this host is itself a container (its cgroup's root has limits), those limits count.
 * `memory.max` and `cpu.max`: cgroup-v2.rst
 */
export async function readResources({ proc, cgroup, poolDir }: ResourceRoots): Promise<Resources> {
  const [meminfo, cpuinfo, memoryMax, memoryCurrent, cpuMax, disk] = await Promise.all([
    readFile(`${proc}/meminfo`, 'utf8'),
    readFile(`${proc}/cpuinfo`, 'utf8'),
    readIfThere(`${cgroup}/memory.max`),
    readIfThere(`${cgroup}/memory.current`),
    readIfThere(`${cgroup}/cpu.max`),
    statfs(poolDir),
  ]);
  const total = kib(meminfo, 'MemTotal') * 1024;
  const limit = Number(memoryMax ?? 'max');
  const limited = Number.isFinite(limit) && limit < total;
  const used = limited ? Number(memoryCurrent ?? 0) : total - kib(meminfo, 'MemAvailable') * 1024;
  const cpu = readCpu(cpuinfo);
  return {
    vcpus: Math.min(cpu.sockets * cpu.cores * cpu.threads, quotaOf(cpuMax)),
    memoryMb: Math.floor((limited ? limit : total) / MIB),
    memoryUsedMb: Math.ceil(used / MIB),
    diskGb: Math.floor((disk.blocks * disk.bsize) / GIB),
    diskUsedGb: Math.ceil(((disk.blocks - disk.bfree) * disk.bsize) / GIB),
    diskFreeGb: Math.floor((disk.bavail * disk.bsize) / GIB),
    arch: ARCHITECTURES[process.arch] ?? process.arch,
    cpu,
  };
}

/** `200000 100000` are two processors; `max 100000` are all. At least one. */
function quotaOf(cpuMax = 'max 100000'): number {
  const [quota, period] = cpuMax.trim().split(' ');
  const processors = Number(quota) / Number(period);
  return Number.isFinite(processors) ? Math.max(1, Math.floor(processors)) : Number.POSITIVE_INFINITY;
}

function kib(meminfo: string, key: string): number {
  return Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(meminfo)?.[1] ?? 0);
}

/** Processors that are online. Where the kernel does not tell of sockets (arm64), each processor is a core of one socket. */
function readCpu(cpuinfo: string): Resources['cpu'] {
  const all = (key: string) => [...cpuinfo.matchAll(new RegExp(`^${key}\\s*:\\s*(.*)$`, 'gm'))].map(([, v = '']) => v);
  const processors = Math.max(1, all('processor').length);
  const sockets = Math.max(1, new Set(all('physical id')).size);
  const coresTold = Number(all('cpu cores')[0] ?? 0);
  const even = coresTold > 0 && processors % (sockets * coresTold) === 0;
  const shape = even
    ? { sockets, cores: coresTold, threads: processors / (sockets * coresTold) }
    : { sockets: 1, cores: processors, threads: 1 };
  return { model: all('model name')[0] ?? '', vendor: all('vendor_id')[0] ?? '', ...shape };
}
