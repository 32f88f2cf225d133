/** A process of this host as a name: what it made for itself can be told from what a later one of the same number did. */
import { readFileSync } from 'node:fs';
import { isNodeErrno } from '../kernel/errno.ts';

const MARK = /^(\d+)-(\d+)$/;

/** `PID-START`, of this process. */
export function ownMark(proc = '/proc'): string {
  return `${process.pid}-${startOf(proc, String(process.pid))}`;
}

/** False for what is no mark, too. */
export function isGone(mark: string, proc = '/proc'): boolean {
  const [, pid, start] = MARK.exec(mark) ?? [];
  return pid !== undefined && startOf(proc, pid) !== start;
}

/** Clock ticks from boot to its start. @see proc(5), /proc/PID/stat, field 22 */
function startOf(proc: string, pid: string): string | undefined {
  try {
    const stat = readFileSync(`${proc}/${pid}/stat`, 'latin1');
    // The second field is a name in brackets, with anything in it.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
