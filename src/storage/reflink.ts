/**
 * Templates and snapshots as files on XFS or btrfs: a snapshot is one FICLONE.
 *
 * Nothing is synced on the way. The journal has the intent before `snapshot` is called; then, after a power cut, the file is
 * - not there, or shorter than the template (FICLONE maps from the front and moves the end of the file along): nothing was ever
 *   acknowledged out of it, since each flush of the file system inside goes through the loop device to an fsync of this file, which
 *   takes its directory entry and its shared extents along. `snapshot`, called again by recover, makes it anew from the template;
 * - or whole. The template itself was synced before it got its name.
 */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  openSync,
  readdirSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { dirname } from 'node:path';
import type { Backend, Template } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import { hasCapability } from '../kernel/capability.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { ficlone } from '../kernel/reflink.ts';
import { layout, snapshotParts, templateName } from './layout.ts';
import { readTemplate } from './template-file.ts';
import { runTool } from './tool.ts';

/** Not O_APPEND: FICLONE refuses that. Not O_EXCL: a half-made one of the same name is made whole. */
const READ_WRITE_CREATE = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;

/** All calls are synchronous: none of them sleeps longer than a log write, and a hop to the thread pool costs more than they do. */
export function reflinkBackend({ poolDir }: { readonly poolDir: string }): Backend {
  const at = layout(poolDir);
  return {
    name: 'reflink',
    snapshotPath: name => at.snapshot(name),

    async getTemplate(name) {
      templateName(name);
      try {
        return readTemplate(at, name);
      } catch (error) {
        if (error instanceof ShiftvolError && error.code === 'SV_TEMPLATE_NOT_FOUND') poolThere(at.templates);
        throw error;
      }
    },

    async snapshot(template, name, { sizeBytes, signal }) {
      signal?.throwIfAborted();
      const path = at.snapshot(name);
      belongs(template, name);
      const size = wantedSize(template, sizeBytes);
      try {
        const isFresh = clone(template, path, size);
        if (isFresh && size > template.sizeBytes) await growUnmounted(template, path, signal);
      } catch (error) {
        throw told(error, name);
      }
      return { path };
    },

    async removeSnapshot(name) {
      unlinkIfThere(at.snapshot(name));
    },

    async adoptSnapshot(image, name) {
      const path = at.snapshot(name);
      if (dirname(dirname(image)) !== at.incoming || !lstatSync(image).isFile())
        throw new ShiftvolError('SV_USAGE', `Cannot take over ${image}: a file of ${at.incoming} is accepted`, {
          field: 'image',
        });
      try {
        linkSync(image, path);
      } catch (error) {
        if (isNodeErrno(error, 'ENOENT')) throw templateGone(name, error);
        if (!isNodeErrno(error, 'EEXIST')) throw error;
        if (lstatSync(path).ino !== lstatSync(image).ino)
          throw new ShiftvolError(
            'SV_SNAPSHOT_EXISTS',
            `Cannot take over ${image}: there is another snapshot "${name}"`,
          );
      }
      syncDirectory(dirname(path));
    },

    async listSnapshots() {
      return entries(at.snapshots).flatMap(template =>
        entries(at.snapshotDir(template)).map(id => `${template}/${id}`),
      );
    },
  };
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isNodeErrno(error, 'ENOENT')) throw error;
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

/**
 * The source is opened first, and the directory is never made here: `template remove` takes the snapshots' directory away before the
 * image, so that a snapshot cannot appear beside a template that is going. Returns whether it was made now.
 */
function clone(template: Template, path: string, size: number): boolean {
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

/**
 * Where this process may not grow a mounted ext4 (a container's root without CAP_SYS_RESOURCE), one that is as its template, clean and
 * mounted by nobody, is grown beforehand. Elsewhere nothing is done: the mount grows it in a fraction of the time.
 */
async function growUnmounted({ fsType }: Template, path: string, signal: AbortSignal | undefined): Promise<void> {
  if (fsType !== 'ext4' || hasCapability('/proc', 'SYS_RESOURCE')) return;
  await runTool('resize2fs', ['-f', path], { signal });
}

function belongs(template: Template, name: string): void {
  const [of] = snapshotParts(name);
  if (of !== template.name)
    throw new ShiftvolError('SV_USAGE', `Cannot name a snapshot of "${template.name}" ${name}: it is of "${of}"`, {
      field: 'snapshot',
    });
}

function wantedSize(template: Template, sizeBytes = template.sizeBytes): number {
  if (Number.isSafeInteger(sizeBytes) && sizeBytes >= template.sizeBytes) return sizeBytes;
  throw new ShiftvolError(
    'SV_USAGE',
    `Cannot make a snapshot of ${sizeBytes} bytes: template "${template.name}" has ${template.sizeBytes}, and a snapshot cannot be smaller`,
    { field: 'sizeBytes' },
  );
}

function told(error: unknown, name: string): unknown {
  if (isNodeErrno(error, 'ENOSPC', 'EDQUOT') || isErrno(error, 'ENOSPC', 'EDQUOT'))
    return new ShiftvolError('SV_NO_SPACE', `Cannot make snapshot "${name}": the pool is full`, {
      remedy: 'destroy attachments, remove templates, or "shiftvol pool grow --size SIZE"',
      cause: error,
    });
  if (isNodeErrno(error, 'ENOENT')) return templateGone(name, error);
  return error;
}

function templateGone(snapshot: string, cause: unknown): ShiftvolError {
  const [template] = snapshotParts(snapshot);
  return new ShiftvolError(
    'SV_TEMPLATE_NOT_FOUND',
    `Cannot make snapshot "${snapshot}": template "${template}" is gone, or is being removed`,
    { field: 'template', cause },
  );
}

function poolThere(templates: string): void {
  if (statSync(templates, { throwIfNoEntry: false })?.isDirectory()) return;
  throw new ShiftvolError('SV_POOL_NOT_FOUND', `Cannot look for templates: there is no pool at ${templates}`, {
    remedy: 'import a template, or set up a pool first: "shiftvol pool create --size 20G"',
  });
}
