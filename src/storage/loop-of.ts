import { readFileSync, realpathSync } from 'node:fs';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { statx } from '../kernel/statx.ts';

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
  return loopOf(directory)?.backingFile === realpathSync(image) && statx(directory).mountRoot;
}
