/** In the machine: a host's state directory and pool on one of its disks. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { assemble, type Host } from '../../../src/cli/assemble.ts';
import { loadConfig } from '../../../src/config/load.ts';
import type { AttachmentId, InstanceKey } from '../../../src/engine/model.ts';
import { attachmentId } from '../../../src/engine/plan.ts';
import { readMountinfo } from '../../../src/mount/mountinfo.ts';
import { run } from '../guest.ts';
import { stoppedInstances } from '../stopped-instances.ts';
import type { Layout } from './model.ts';

const DISK = '/disk';
const RUN_DIR = '/run/shiftvol';
export const TEMPLATE = 'web';
/** In each snapshot's root. */
export const RECORDS = 'records';
const RECORD_BYTES = 4096;

export type Paths = { readonly stateDir: string; readonly poolDir: string };

export function pathsOf(layout: Layout): Paths {
  const stateDir = join(DISK, 'state');
  // As `shiftvol pool create` makes it: an image on the disk's own file system, mounted in its directory.
  return { stateDir, poolDir: layout === 'pool' ? join(stateDir, 'pool') : join(DISK, 'pool') };
}

/** The file systems are gone at its end, and with them what the machine's memory knew of them. */
export function mountDisk(device: string): Disposable {
  mkdirSync(DISK, { recursive: true });
  run('mount', device, DISK);
  return {
    [Symbol.dispose]() {
      const below = (path: string) => path === DISK || path.startsWith(`${DISK}/`) || path.startsWith(`${RUN_DIR}/`);
      const points = readMountinfo('/proc').map(mount => mount.point);
      for (const point of points.filter(below).toReversed()) run('umount', point);
      rmSync(RUN_DIR, { recursive: true, force: true });
    },
  };
}

export async function openHost({ stateDir, poolDir }: Paths): Promise<Host> {
  const env = {
    SHIFTVOL_STATE_DIR: stateDir,
    SHIFTVOL_POOL_DIR: poolDir,
    SHIFTVOL_RUN_DIR: RUN_DIR,
    SHIFTVOL_HOST: 'vm',
  };
  const runtimes = [stoppedInstances()];
  return await assemble(loadConfig({}, env), { outbox: true, change: deps => ({ ...deps, runtimes }) });
}

export function idOf(place: string): AttachmentId {
  const [instance = '', target = ''] = place.split(':');
  return attachmentId(instance as InstanceKey, target);
}

export function record(life: number, number: number): Buffer {
  return Buffer.alloc(RECORD_BYTES, `life ${life} record ${number} `);
}
