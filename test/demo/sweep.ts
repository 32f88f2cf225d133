/** The end of a demo's directory: whatever happened to its processes, nothing of it stays. Only what lies below it is touched. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { hostState } from '../rig/host.ts';

/**
 * Unmounts all that is mounted below the directory, the newest first, and removes it. One that is busy is waited for, and then refused.
 * "Not there" is success.
 */
export async function sweep(work: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    for (const path of mountsBelow(work).toReversed()) tryUnmount(path);
    const left = mountsBelow(work);
    if (left.length === 0) break;
    if (attempt === 50) throw new Error(`Still mounted, so not removed: ${left.join(' ')}`);
    await sleep(100);
  }
  if (existsSync(work)) execFileSync('rm', ['-rf', '--one-file-system', '--', work]);
}

/** Loop devices and mounts, in any mount namespace, that have to do with the directory; and the directory itself. */
export function remains(work: string): readonly string[] {
  const { loops, mounts } = hostState(work);
  return [...loops, ...mounts, ...(existsSync(work) ? [work] : [])];
}

function mountsBelow(work: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(point => point.startsWith(`${work}/`));
}

function tryUnmount(path: string): void {
  try {
    execFileSync('umount', ['--', path], { stdio: 'ignore' });
  } catch {
    // busy: seen and told by the caller
  }
}
