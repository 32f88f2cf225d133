/** One file made of another's blocks, and what its users have in common. */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readdirSync, unlinkSync } from 'node:fs';
import type { Template } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { ficlone } from '../kernel/reflink.ts';
import { snapshotParts } from './layout.ts';

/** Not O_APPEND: FICLONE refuses that. Not O_EXCL: a half-made one of the same name is made whole. */
const READ_WRITE_CREATE = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;

/**
 * The source is opened first, and the directory is never made here: `template remove` takes the snapshots' directory away before the
 * image, so that a snapshot cannot appear beside a template that is going. Returns whether it was made now.
 */
export function clone(template: Template, path: string, size: number): boolean {
  const from = openSync(template.path, 'r');
  try {
    const to = openSync(path, READ_WRITE_CREATE, 0o600);
    try {
      const there = fstatSync(to).size;
      if (there < template.sizeBytes) ficlone(to, from, path);
      if (there < size && size > template.sizeBytes) ftruncateSync(to, size);
      return there < template.sizeBytes;
    } finally {
      closeSync(to);
    }
  } finally {
    closeSync(from);
  }
}

export function told(error: unknown, name: string): unknown {
  if (isNodeErrno(error, 'ENOSPC', 'EDQUOT') || isErrno(error, 'ENOSPC', 'EDQUOT'))
    return new ShiftvolError('SV_NO_SPACE', `Cannot make snapshot "${name}": the pool is full`, {
      remedy: 'destroy attachments, remove templates, or "shiftvol pool grow --size SIZE"',
      cause: error,
    });
  if (isNodeErrno(error, 'ENOENT')) return templateGone(name, error);
  return error;
}

export function templateGone(snapshot: string, cause: unknown): ShiftvolError {
  const [template] = snapshotParts(snapshot);
  return new ShiftvolError(
    'SV_TEMPLATE_NOT_FOUND',
    `Cannot make snapshot "${snapshot}": template "${template}" is gone, or is being removed`,
    { field: 'template', cause },
  );
}

export function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isNodeErrno(error, 'ENOENT', 'ENOTDIR')) throw error;
  }
}

/** The names in a directory of a pool, without those that are hidden. None where there is no such directory. */
export function entries(directory: string): readonly string[] {
  try {
    return readdirSync(directory).filter(name => !name.startsWith('.'));
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
