import { readFile } from 'node:fs/promises';
import { isNodeErrno } from '../../kernel/errno.ts';
import type { Diagnostics } from '../machines.ts';
import { powerOf } from './machine-state.ts';
import { instanceState } from './wire.ts';

/** LXD's state of an instance, and for how long its init has been there. */
export async function readDiagnostics(metadata: unknown, proc: string): Promise<Diagnostics> {
  const { status, pid, processes: pids, cpuNs, memoryBytes, memoryPeakBytes, networks } = instanceState(metadata);
  const uptimeS = pid === undefined ? undefined : await ageOf(proc, pid);
  return {
    state: powerOf(status),
    cpuNs,
    memoryBytes,
    memoryPeakBytes,
    pids,
    ...(uptimeS === undefined ? {} : { uptimeS }),
    networks,
  };
}

/** USER_HZ, which the kernel fixes at 100 for all that user space sees on the architectures that Node runs on. */
const TICKS_PER_S = 100;
/** `starttime` among the fields after the command, which is in parentheses and may hold anything: proc_pid_stat(5). */
const START_TIME = 22 - 3;

async function ageOf(proc: string, pid: number): Promise<number | undefined> {
  try {
    const [stat, uptime] = await Promise.all([
      readFile(`${proc}/${pid}/stat`, 'utf8'),
      readFile(`${proc}/uptime`, 'utf8'),
    ]);
    const started = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[START_TIME]);
    const age = Number(uptime.split(' ')[0]) - started / TICKS_PER_S;
    return Number.isFinite(age) ? Math.max(0, Math.round(age * 100) / 100) : undefined;
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
