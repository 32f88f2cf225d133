/** A pool of the bench's own, and templates in it that are made once a run, by the real import. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Template } from '../../src/engine/ports.ts';
import { importTemplate } from '../../src/storage/import/import.ts';
import { createPool } from '../../src/storage/pool.ts';
import { run } from '../rig/pool.ts';
import { writeTreeTar } from '../rig/tree.ts';
import type { BenchFs } from './options.ts';
import { thousands } from './report.ts';
import type { Workspace } from './workspace.ts';

/** Sparse: it costs what is written. */
const POOL_BYTES = 64 * 2 ** 30;

export type Pool = {
  readonly poolDir: string;
  template(files: number, fs: BenchFs): Promise<Template>;
};

/** XFS in a file, through a loop device with direct I/O: what `shiftvol pool create` makes where the host has none. */
export async function makePool(workspace: Workspace): Promise<Pool> {
  const stateDir = join(workspace.dir, 'pool-state');
  const poolDir = join(workspace.dir, 'pool');
  await createPool({ stateDir, poolDir }, { sizeBytes: POOL_BYTES, signal: workspace.signal });
  workspace.defer(() => void run('umount', poolDir));
  const made = new Map<string, Promise<Template>>();
  const template = (files: number, fs: BenchFs): Promise<Template> => {
    const name = `bench-${fs}-${thousands(files)}`;
    const known = made.get(name) ?? importTree(workspace, poolDir, { name, files, fs });
    made.set(name, known);
    return known;
  };
  return { poolDir, template };
}

async function importTree(
  workspace: Workspace,
  poolDir: string,
  { name, files, fs }: { name: string; files: number; fs: BenchFs },
): Promise<Template> {
  const started = performance.now();
  const tar = join(workspace.dir, `${name}.tar`);
  try {
    await writeTreeTar(tar, { files });
    const request = { name, from: tar, fsType: fs } as const;
    const { template } = await importTemplate({ poolDir }, request, { signal: workspace.signal });
    workspace.log(
      `${name}: imported in ${Math.round((performance.now() - started) / 1000)} s, ${template.extents} extents`,
    );
    return template;
  } finally {
    rmSync(tar, { force: true });
  }
}
