import { chmodSync, mkdirSync, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ImageRef, MountSpec } from '../../../src/engine/ports.ts';
import type { Idmap } from '../../../src/idmap/idmap.ts';
import { fsId, hostId } from '../../../src/idmap/ids.ts';
import { umount2 } from '../../../src/kernel/mount.ts';
import { KernelMounter } from '../../../src/mount/mounter.ts';
import { readMountinfo } from '../../../src/mount/mountinfo.ts';
import { assertHostUnchanged, hostState } from '../../rig/host.ts';
import { type Pool, withPool } from '../../rig/images.ts';

export const HOST_BASE = 200000;
export const COUNT = 65536;

/** On-disk ids from `idBase` on -> host ids from `hostBase` on. */
export function map(hostBase = HOST_BASE, idBase = 0): Idmap {
  return (['uid', 'gid'] as const).map(kind => ({ kind, fsId: fsId(idBase), hostId: hostId(hostBase), count: COUNT }));
}

export type Bench = {
  readonly pool: Pool;
  readonly mounter: KernelMounter;
  /** A directory that anybody may walk through; must be empty at the end. */
  readonly dir: string;
  spec(name: string, changes?: Partial<MountSpec> & { hostBase?: number }): MountSpec;
  /** openDevice, mount, let go of the device. */
  attach(image: ImageRef, spec: MountSpec): Promise<void>;
};

/** A pool, a mounter, a directory; and at the end the host as it was before. */
export async function withBench(use: (bench: Bench) => Promise<void>): Promise<void> {
  await withPool(async pool => {
    chmodSync(dirname(pool.dir), 0o711);
    const before = hostState(dirname(pool.dir));
    const dir = mkdtempSync(join(tmpdir(), 'shiftvol-mount-'));
    chmodSync(dir, 0o711);
    const beforeMounts = hostState(dir);
    await using mounter = new KernelMounter();
    using cleanUp = new DisposableStack();
    cleanUp.defer(() => takeAllAway(dir));
    await use({
      pool,
      dir,
      mounter,
      spec: (name, { hostBase = HOST_BASE, ...changes } = {}) => ({
        path: join(dir, name),
        idmap: map(hostBase, changes.idBase),
        within: { uid: [{ start: hostBase, count: COUNT }], gid: [{ start: hostBase, count: COUNT }] },
        idBase: 0,
        readOnly: false,
        role: 'volume',
        ...changes,
      }),
      async attach(image, spec) {
        await using device = await mounter.openDevice(image, { readOnly: spec.readOnly });
        await mounter.mount(device, spec);
      },
    });
    await assertHostUnchanged(beforeMounts);
    rmdirSync(dir);
    await assertHostUnchanged(before);
  });
}

/** Only where a test has failed is there anything left to take away; the failure is to be seen, not what follows from it. */
function takeAllAway(dir: string): void {
  for (const mount of readMountinfo('/proc').toReversed())
    if (mount.point.startsWith(`${dir}/`)) umount2(mount.point, { lazy: true });
}

export function file(path: string): ImageRef {
  return { kind: 'file', path };
}

export function makeDir(path: string): string {
  mkdirSync(path);
  return path;
}
