import { randomUUID } from 'node:crypto';
import { constants, mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { SpareImages } from '../engine/ports.ts';
import { isNodeErrno } from '../kernel/errno.ts';
import { open } from '../kernel/fd.ts';
import { O_SUSPICIOUS, tryLock } from '../kernel/file-lock.ts';
import { canGrowMounted } from '../mount/grow.ts';
import { clone, entries, told, unlinkIfThere } from './clone.ts';
import type { Layout } from './layout.ts';

/**
 * Clones with a name of their own, in the pool beside the snapshots. A name it must have: the loop driver tells its users the path of the file,
 * and follows a rename, but never gives a nameless one a path.
 */
export function spareImages(at: Layout): SpareImages {
  return {
    async make(template) {
      const path = join(at.spares, randomUUID());
      try {
        mkdirSync(at.spares, { recursive: true, mode: 0o700 });
        clone(template, path, template.sizeBytes);
      } catch (error) {
        unlinkIfThere(path);
        throw told(error, `${template.name}/spare`);
      }
      return path;
    },

    canBe({ fsType, sizeBytes: least }, sizeBytes = least) {
      return sizeBytes === least || (sizeBytes > least && canGrowMounted(fsType));
    },

    give(path, snapshot) {
      const to = at.snapshot(snapshot);
      // Its name is its attachment's, and the journal lets one at a time make it: nothing gets in between.
      if (statSync(to, { throwIfNoEntry: false })) return false;
      try {
        renameSync(path, to);
        return true;
      } catch (error) {
        if (isNodeErrno(error, 'ENOENT')) return false;
        throw told(error, snapshot);
      }
    },

    remove: unlinkIfThere,

    sweep() {
      for (const name of entries(at.spares)) {
        const path = join(at.spares, name);
        using file = open(path, constants.O_RDONLY | O_SUSPICIOUS);
        if (tryLock(file.fd, 'exclusive', path)) unlinkIfThere(path);
      }
    },
  };
}
