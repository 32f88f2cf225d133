import { type BigIntStats, constants, existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { open } from '../kernel/fd.ts';
import { loopStatus } from '../kernel/loop.ts';

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
    if (other !== undefined && other.dev === image.dev && other.ino === image.ino) return true;
    return basename(loop.backingFile) === basename(path) && standsFor(loop.path, image);
  });
}

/**
 * Asks the device itself. Where the file was opened in a mount namespace that has gone since (an agent's pod), sysfs shows a path that
 * begins at a mount which is nowhere any more: only the name at its end is right.
 */
export function standsFor(devicePath: string, image: Pick<BigIntStats, 'dev' | 'ino'>): boolean {
  try {
    using loop = open(devicePath, constants.O_RDONLY);
    const { device, inode } = loopStatus(loop.fd);
    return device === image.dev && inode === image.ino;
  } catch (error) {
    if (isErrno(error, 'ENXIO') || isNodeErrno(error, 'ENOENT', 'ENXIO', 'ENODEV')) return false; // freed meanwhile
    throw error;
  }
}

export function undeleted({ backingFile }: LoopInUse): string {
  return backingFile.endsWith(DELETED) ? backingFile.slice(0, -DELETED.length) : backingFile;
}
