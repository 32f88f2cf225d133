import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';

export type Machine = {
  readonly cpu: string;
  readonly cpus: number;
  readonly memory_gib: number;
  readonly kernel: string;
  readonly node: string;
  /** Device and file system below the pool's image: snapshots are on an XFS in it. */
  readonly disk: string;
};

/** What the numbers were measured on. `directory`: where the bench keeps its files. */
export function describeMachine(directory: string): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cpus: availableParallelism(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.versions.node,
    disk: diskOf(directory),
  };
}

/** `/dev/vda (ext4)`: of the longest mount point above the directory. */
function diskOf(directory: string): string {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .trim()
    .split('\n')
    .map(line => line.split(' '));
  const above = mounts.filter(([, point = '']) => `${directory}/`.startsWith(point === '/' ? '/' : `${point}/`));
  const [source, , type] = above.toSorted((a, b) => (a[1]?.length ?? 0) - (b[1]?.length ?? 0)).at(-1) ?? [];
  return `${source} (${type})`;
}
