/** A pool with a template and something like an attachment's image in it. */
import { copyFileSync, constants as fs, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { AttachmentId } from '../../../src/engine/model.ts';
import type { Template } from '../../../src/engine/ports.ts';
import { importTemplate } from '../../../src/storage/import/import.ts';
import { layout } from '../../../src/storage/layout.ts';
import { makePool, type RigPool } from '../../rig/pool.ts';
import { makeTree } from '../../rig/tree.ts';

export const ID = '0123456789abcdef' as AttachmentId;
export type Site = RigPool & { readonly template: Template; snapshot(name: string, from?: string): string };

export async function makeSite(kind: 'xfs' | 'btrfs', fsType: 'ext4' | 'xfs' | 'btrfs' = 'ext4'): Promise<Site> {
  const pool = makePool(kind);
  const tree = join(pool.base, 'tree');
  await makeTree(tree, { files: 400 });
  const { template } = await importTemplate(pool, { name: 'web', from: tree, fsType });
  const directory = layout(pool.poolDir).snapshotDir('web');
  mkdirSync(directory, { recursive: true });
  return {
    ...pool,
    template,
    /** A clone, of the template where nothing else is named. */
    snapshot(name, from = template.path) {
      const path = join(directory, name);
      copyFileSync(from, path, fs.COPYFILE_FICLONE_FORCE);
      return path;
    },
    [Symbol.dispose]: () => pool[Symbol.dispose](),
  };
}
