/** A real pool for tests: a loop-backed XFS or btrfs in a directory of its own, taken away by dispose. Needs root. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export type RigPool = Disposable & { readonly base: string; readonly poolDir: string };

/** `size` in mkfs form is sparse: it costs what is written. */
export function makePool(kind: 'xfs' | 'btrfs', sizeBytes = 8 * 2 ** 30): RigPool {
  const base = mkdtempSync(join(tmpdir(), `shiftvol-pool-${kind}-`));
  const image = join(base, 'pool.img');
  const poolDir = join(base, 'pool');
  mkdirSync(poolDir);
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  run(`mkfs.${kind}`, '-q', image);
  run('mount', '-o', 'loop,nodev,nosuid,noexec', image, poolDir);
  chmodSync(poolDir, 0o700);
  return {
    base,
    poolDir,
    [Symbol.dispose]() {
      run('umount', poolDir);
      rmSync(base, { recursive: true });
    },
  };
}

/** Every file below a directory with its size, sorted: what a test compares before and after. */
export function listTree(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).toSorted();
}

export function run(file: string, ...args: readonly string[]): string {
  return execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}
