import { readFileSync, realpathSync, statSync } from 'node:fs';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { statx } from '../kernel/statx.ts';
import { standsFor } from '../mount/loops.ts';

/** The loop device whose file system `path` lies on, and the file behind it. Not for btrfs, whose device numbers are its own. */
export function loopOf(path: string): { readonly path: string; readonly backingFile: string } | undefined {
  try {
    const { devno } = statx(path);
    const backingFile = readFileSync(`/sys/dev/block/${devno}/loop/backing_file`, 'utf8').replace(/\n$/, '');
    return { path: `/dev/loop${devno.split(':')[1]}`, backingFile };
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR', 'EINVAL', 'ENXIO') || isErrno(error, 'ENOENT', 'ENOTDIR'))
      return undefined;
    throw error;
  }
}

/** Whether exactly this image is mounted at exactly this directory. */
export function mountedHere(directory: string, image: string): boolean {
  const loop = loopOf(directory);
  if (loop === undefined || !statx(directory).mountRoot) return false;
  return loop.backingFile === realpathSync(image) || standsFor(loop.path, statSync(image, { bigint: true }));
}
