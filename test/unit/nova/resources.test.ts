import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readResources } from '../../../src/nova/resources.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-resources-'));
after(() => rmSync(dir, { recursive: true }));

const MEMINFO = 'MemTotal:       16384000 kB\nMemFree:         1000 kB\nMemAvailable:   8192000 kB\n';
const processor = (n: number, socket: number) =>
  `processor\t: ${n}\nvendor_id\t: GenuineIntel\nmodel name\t: Some CPU @ 2.00GHz\nphysical id\t: ${socket}\ncpu cores\t: 2\n\n`;
const INTEL = [0, 1, 2, 3, 4, 5, 6, 7].map(n => processor(n, n >> 2)).join('');
const ARM = [0, 1, 2].map(n => `processor\t: ${n}\nBogoMIPS\t: 50.00\n\n`).join('');

/** A host with these files. */
function host(name: string, cpuinfo: string, cgroup: Readonly<Record<string, string>> = {}) {
  const roots = { proc: join(dir, name, 'proc'), cgroup: join(dir, name, 'cgroup'), poolDir: dir };
  for (const path of [roots.proc, roots.cgroup]) mkdirSync(path, { recursive: true });
  writeFileSync(join(roots.proc, 'meminfo'), MEMINFO);
  writeFileSync(join(roots.proc, 'cpuinfo'), cpuinfo);
  for (const [file, text] of Object.entries(cgroup)) writeFileSync(join(roots.cgroup, file), text);
  return roots;
}

test('a host of its own: all that the kernel shows, and the shape of its processors', async () => {
  const found = await readResources(host('own', INTEL));
  assert.deepEqual([found.vcpus, found.memoryMb, found.memoryUsedMb], [8, 16_000, 8000]);
  assert.deepEqual(found.cpu, {
    model: 'Some CPU @ 2.00GHz',
    vendor: 'GenuineIntel',
    sockets: 2,
    cores: 2,
    threads: 2,
  });
  assert.ok(found.diskGb >= found.diskFreeGb && found.diskFreeGb >= 0);
});

test('without sockets in /proc/cpuinfo every processor is a core', async () => {
  const { cpu, vcpus } = await readResources(host('arm', ARM));
  assert.deepEqual([vcpus, cpu.sockets, cpu.cores, cpu.threads], [3, 1, 3, 1]);
});

test('inside of a cgroup with limits those count, where they are less', async () => {
  const limits = { 'memory.max': `${2 ** 30}\n`, 'memory.current': `${2 ** 29}\n`, 'cpu.max': '250000 100000\n' };
  const limited = await readResources(host('limited', INTEL, limits));
  assert.deepEqual([limited.vcpus, limited.memoryMb, limited.memoryUsedMb], [2, 1024, 512]);

  const tiny = await readResources(host('tiny', INTEL, { 'cpu.max': '1000 100000\n', 'memory.max': 'max\n' }));
  assert.deepEqual([tiny.vcpus, tiny.memoryMb], [1, 16_000]);
  const wide = await readResources(host('wide', INTEL, { 'cpu.max': 'max 100000\n', 'memory.max': `${2 ** 60}\n` }));
  assert.deepEqual([wide.vcpus, wide.memoryMb], [8, 16_000]);
});
