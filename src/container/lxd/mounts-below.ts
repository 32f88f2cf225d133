import { readFile } from 'node:fs/promises';
import { isNodeErrno } from '../../kernel/errno.ts';

/**
 * Mount points at or below one of `directories`, in the mount namespace of each of `pids` (`self` for ours): LXD may run in one of its
 * own (as a snap does), and what is mounted there it would delete just so. A process that is gone has none.
 */
export async function mountsBelow(
  proc: string,
  pids: readonly (number | 'self')[],
  directories: readonly string[],
): Promise<readonly string[]> {
  const tables = await Promise.all(pids.map(pid => mountPoints(`${proc}/${pid}/mountinfo`)));
  const below = (point: string) => directories.some(dir => point === dir || point.startsWith(`${dir}/`));
  return [...new Set(tables.flat().filter(below))];
}

async function mountPoints(path: string): Promise<readonly string[]> {
  try {
    const table = await readFile(path, 'utf8');
    return table.split('\n').map(line => unescaped(line.split(' ')[4] ?? ''));
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ESRCH', 'EINVAL')) return [];
    throw error;
  }
}

/** Blanks and the like are octal in there: proc_pid_mountinfo(5). */
function unescaped(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
