/** The process itself, under the names that Prometheus' client libraries have for it. What costs nothing while nobody asks. */
import { readdirSync, readFileSync } from 'node:fs';
import { type Metrics, setCounter } from './client.ts';

export type Build = { readonly version: string; readonly role: 'agent' | 'router' };

/** Returns what brings them up to date. */
export function processMetrics(metrics: Metrics, { version, role }: Build): () => void {
  const build = metrics.gauge('shiftvol_build_info', 'What this is. Always 1.', ['version', 'node', 'role']);
  build.set({ version, node: process.versions.node, role }, 1);
  const started = metrics.gauge('process_start_time_seconds', 'When the process started, in seconds since 1970.');
  started.set(Math.round(Date.now() / 1000 - process.uptime()));
  const cpu = metrics.counter('process_cpu_seconds_total', 'CPU time, of user and system, in seconds.');
  const resident = metrics.gauge('process_resident_memory_bytes', 'Memory that the process has.');
  const files = metrics.gauge('process_open_fds', 'Descriptors that are open.');
  const most = metrics.gauge('process_max_fds', 'Descriptors that may be open.');
  most.set(maxFiles());
  const heap = metrics.gauge('nodejs_heap_size_used_bytes', 'Memory of JavaScript objects.');
  const loop = metrics.gauge(
    'nodejs_eventloop_utilization',
    'Part of the time since the last scrape in which the event loop worked, 0 to 1.',
  );
  let before = performance.eventLoopUtilization();
  return () => {
    const { user, system } = process.cpuUsage();
    setCounter(cpu, [[{}, (user + system) / 1e6]]);
    const { rss, heapUsed } = process.memoryUsage();
    resident.set(rss);
    heap.set(heapUsed);
    files.set(readdirSync('/proc/self/fd').length);
    const now = performance.eventLoopUtilization();
    loop.set(performance.eventLoopUtilization(now, before).utilization);
    before = now;
  };
}

/** @see proc_pid_limits(5) */
function maxFiles(): number {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}
