/** What the host has: mounts in every mount namespace that a process is in, and loop devices. For "nothing was left" in tests. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { loopsInUse } from '../../src/mount/loops.ts';
import { type MountInfo, readMountinfo } from '../../src/mount/mountinfo.ts';

export type HostState = {
  /** Only what has to do with files below this directory is looked at: other tests run beside us. `/` for all. */
  readonly scope: string;
  /** `loop3 /tmp/x/image (deleted)` */
  readonly loops: readonly string[];
  /** `here /tmp/x/mount ext4 /dev/loop3`; `mnt:[4026531841] ...` of one that is in that namespace only. */
  readonly mounts: readonly string[];
  /** Names in the directory itself, where there is one. */
  readonly files: readonly string[];
};

/** Now. A mount belongs to the scope by its point, or by its source: a loop device of an image there. */
export function hostState(scope = '/'): HostState {
  const loops = loopsInUse('/sys').filter(loop => isBelow(loop.backingFile, scope));
  const sources = new Set(loops.map(loop => loop.path));
  const own = readMountinfo('/proc').filter(m => isBelow(m.point, scope) || sources.has(m.source));
  const shown = (m: MountInfo) => `${m.point} ${m.fsType} ${m.source}`;
  const ours = new Set(own.map(shown));
  // A namespace that somebody makes has copies of all that is mounted: what is still here is none of the leftovers.
  const others = mountTables().flatMap(({ namespace, table }) =>
    table
      .filter(m => (isBelow(m.point, scope) || sources.has(m.source)) && !ours.has(shown(m)))
      .map(m => `${namespace} ${shown(m)}`),
  );
  return {
    scope,
    loops: loops.map(loop => `${loop.name} ${loop.backingFile}`).toSorted(),
    mounts: [...own.map(m => `here ${shown(m)}`), ...others].toSorted(),
    files: scope !== '/' && existsSync(scope) ? readdirSync(scope).toSorted() : [],
  };
}

/** Long beside a container's start on a host that is busy. */
const PATIENCE_MS = 15_000;

/**
 * Waits for the state to be what it was: kernels free loop devices a moment after the last unmount, and what starts a container beside us
 * has copies of our mounts at other places, from its namespace's beginning until it has turned its back on its old root.
 */
export async function assertHostUnchanged(before: HostState): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  let now = hostState(before.scope);
  while (!same(before, now) && performance.now() < deadline) {
    await sleep(100);
    now = hostState(before.scope);
  }
  assert.deepEqual(now, before);
}

function same(a: HostState, b: HostState): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function isBelow(path: string, scope: string): boolean {
  return scope === '/' || path === scope || path.startsWith(`${scope}/`);
}

function mountTables(): readonly { namespace: string; table: readonly MountInfo[] }[] {
  const seen = new Set<string>();
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(pid => {
      try {
        const namespace = readlinkSync(`/proc/${pid}/ns/mnt`);
        if (seen.has(namespace)) return [];
        const table = readMountinfo('/proc', pid);
        seen.add(namespace);
        return [{ namespace, table }];
      } catch {
        return []; // the process has ended
      }
    });
}
