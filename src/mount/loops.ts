import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isNodeErrno } from '../kernel/errno.ts';

export type LoopInUse = {
  readonly name: string;
  readonly path: string;
  readonly devno: string;
  readonly backingFile: string;
};

const DELETED = ' (deleted)';

/** Every loop device that stands for a file, by sysfs. Grows with their number: for when something is in the way. */
export function loopsInUse(sysRoot: string): readonly LoopInUse[] {
  return readdirSync(join(sysRoot, 'block'))
    .filter(name => /^loop\d+$/.test(name))
    .flatMap(name => {
      try {
        const dir = join(sysRoot, 'block', name);
        const backingFile = readFileSync(join(dir, 'loop/backing_file'), 'utf8').replace(/\n$/, '');
        const devno = readFileSync(join(dir, 'dev'), 'utf8').trim();
        return [{ name, path: `/dev/${name}`, devno, backingFile }];
      } catch (error) {
        if (isNodeErrno(error, 'ENOENT', 'ENXIO', 'ENODEV')) return []; // free
        throw error;
      }
    });
}

/** The loop devices of this image: by its inode, so that hard links count, or by its path where the image has been unlinked. */
export function loopsOf(sysRoot: string, imagePath: string): readonly LoopInUse[] {
  const loops = loopsInUse(sysRoot);
  if (!existsSync(imagePath)) return loops.filter(l => l.backingFile.endsWith(DELETED) && undeleted(l) === imagePath);
  const path = realpathSync(imagePath);
  const image = statSync(path, { bigint: true });
  return loops.filter(loop => {
    if (loop.backingFile === path) return true;
    const other = statSync(loop.backingFile, { bigint: true, throwIfNoEntry: false });
    return other !== undefined && other.dev === image.dev && other.ino === image.ino;
  });
}

export function undeleted({ backingFile }: LoopInUse): string {
  return backingFile.endsWith(DELETED) ? backingFile.slice(0, -DELETED.length) : backingFile;
}
