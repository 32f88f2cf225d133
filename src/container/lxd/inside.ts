/**
 * What a container has at the place where a device shall go. LXD mounts over anything: it deletes a file or symlink that is there to
 * make its directory; and through a symlink in a parent it mounts while the container runs, but then refuses to start it again.
 */
import { ShiftvolError } from '../../errors.ts';
import { isErrno, isNodeErrno } from '../../kernel/errno.ts';
import { type Fd, open } from '../../kernel/fd.ts';
import { O } from '../../kernel/libc.ts';
import { openat2, RESOLVE } from '../../kernel/openat2.ts';
import { fstatx } from '../../kernel/statx.ts';

export type Found = 'directory' | 'symlink' | 'file' | 'nothing' | 'unknown';

/**
 * Looked at through the container's root, without leaving it and without entering another mount: a FUSE file system of the container
 * could keep us waiting for ever. What lies on one is `unknown`. 0.05 ms. `root`: `/proc/PID/root` of its init, or where its root file
 * system is mounted.
 */
export function foundInside(root: string, target: string): Found {
  try {
    using directory = open(root, O.PATH | O.DIRECTORY | O.CLOEXEC);
    return typeBelow(directory.fd, target);
  } catch (error) {
    // It ends just now, or has no root file system; LXD will say so.
    if (isNodeErrno(error, 'ENOENT', 'ESRCH')) return 'unknown';
    throw error;
  }
}

function typeBelow(root: Fd, target: string): Found {
  const walk = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS | RESOLVE.NO_SYMLINKS | RESOLVE.NO_XDEV;
  try {
    using file = openat2(root, target, O.PATH | O.NOFOLLOW | O.CLOEXEC, walk);
    return typeOf(fstatx(file.fd).mode);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return 'nothing';
    if (isErrno(error, 'ELOOP')) return 'symlink';
    if (isErrno(error, 'ENOTDIR')) return 'file';
    if (isErrno(error, 'EXDEV', 'EAGAIN', 'EACCES')) return 'unknown';
    throw error;
  }
}

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;

function typeOf(mode: number): Found {
  const type = mode & S_IFMT;
  return type === S_IFDIR ? 'directory' : type === S_IFLNK ? 'symlink' : 'file';
}

/** @throws SV_TARGET_INVALID: a symlink; SV_TARGET_TAKEN: a file */
export function requireDirectoryOrNothing(found: Found, path: string, target: string, instance: string): void {
  if (found === 'symlink')
    throw new ShiftvolError(
      'SV_TARGET_INVALID',
      `Cannot attach at ${instance}:${target}: a part of it is a symbolic link in the container, directories are accepted`,
      { field: 'target', remedy: 'give the path that it leads to' },
    );
  if (found === 'file')
    throw new ShiftvolError(
      'SV_TARGET_TAKEN',
      `Cannot attach at ${instance}:${target}: ${path === target ? 'there' : `at "${path}"`} is a file, a directory or nothing is accepted`,
      { field: 'target', remedy: 'choose another target, or remove the file' },
    );
}
