/**
 * Saved snapshots: reflink clones of attached images, kept below `saved/ATTACHMENT/NAME` of the pool. A clone is made under a hidden name
 * and gets its own when it is known to be whole, so that what has a name is good. Nothing but these files knows of them.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import type { AttachmentId } from '../engine/model.ts';
import type { SavedImage, SavedImages } from '../engine/volume-ports.ts';
import { isError, ShiftvolError } from '../errors.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { open } from '../kernel/fd.ts';
import { fileExtents } from '../kernel/fiemap.ts';
import { O_SUSPICIOUS } from '../kernel/file-lock.ts';
import { ficloneAsync } from '../kernel/reflink.ts';
import { entries, unlinkIfThere } from './clone.ts';
import { sparseChunks } from './import/copy.ts';
import { layout } from './layout.ts';
import { isGone, ownMark } from './process-mark.ts';
import { runTool } from './tool.ts';

const fsyncAsync = promisify(fsync);
const WRITE_ANEW = constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;

export function savedImages({ poolDir }: { readonly poolDir: string }): SavedImages {
  const at = layout(poolDir);

  function find(of: AttachmentId, name: string): SavedImage | undefined {
    const path = at.savedImage(of, name);
    const found = statSync(path, { throwIfNoEntry: false });
    return found && { attachment: of, name, path, sizeBytes: found.size, createdAt: found.mtime.toISOString() };
  }

  return {
    find,

    async list(of) {
      const owners = of === undefined ? entries(at.saved) : [of];
      return owners.flatMap(id =>
        entries(join(at.saved, id)).flatMap(name => {
          const found = find(id as AttachmentId, name);
          return found ? [{ ...found, ...usage(found.path) }] : [];
        }),
      );
    },

    async clone(image, of, name) {
      const to = at.unnamedImage(of, name);
      mkdirSync(at.savedDir(of), { recursive: true, mode: 0o700 });
      try {
        await cloneFile(image, to);
      } catch (error) {
        throw told(error, image, name);
      }
      return { path: to, sizeBytes: statSync(to).size };
    },

    async keep(of, name) {
      const from = at.unnamedImage(of, name);
      await syncFile(from);
      renameSync(from, at.savedImage(of, name));
      await syncFile(at.savedDir(of));
      await syncFile(at.saved);
      await syncFile(poolDir);
    },

    async discard(of, name) {
      unlinkIfThere(at.unnamedImage(of, name));
      removeIfEmpty(at.savedDir(of));
    },

    async remove(of, name) {
      unlinkIfThere(at.savedImage(of, name));
      removeIfEmpty(at.savedDir(of));
    },

    async sweep() {
      for (const { of, name } of abandonedImports({ poolDir })) {
        unlinkIfThere(at.savedImage(of, name));
        removeIfEmpty(at.savedDir(of));
      }
    },

    async restore(of, name, image) {
      const from = at.savedImage(of, name);
      const beside = besideOf(image, of);
      try {
        await cloneFile(from, beside);
        keepMode(image, beside);
        await syncFile(beside);
        renameSync(beside, image);
        await syncFile(dirname(image));
      } catch (error) {
        unlinkIfThere(beside);
        throw told(error, from, name);
      }
    },

    async growUnmounted(of, image, fsType, signal) {
      const beside = besideOf(image, of);
      if (fsType !== 'ext4')
        throw new ShiftvolError('SV_HOST', `Cannot grow the ${fsType} in ${image} while it is not mounted`);
      try {
        await cloneFile(image, beside);
        keepMode(image, beside);
        await growExt4(beside, signal);
        await syncFile(beside);
        renameSync(beside, image);
        await syncFile(dirname(image));
      } catch (error) {
        unlinkIfThere(beside);
        throw told(error, image, basename(beside));
      }
    },

    async discardRestore(of, image) {
      unlinkIfThere(besideOf(image, of));
    },

    read(path, signal) {
      return Readable.from(readSparse(path, signal), { objectMode: false, highWaterMark: 1 });
    },
  };
}

const IMPORT = 'import-';

/** Name of the snapshot that an import by this process is made from. */
export function importName(): string {
  return `${IMPORT}${ownMark()}`;
}

/** Saved for imports whose process was killed. */
export function abandonedImports({
  poolDir,
}: {
  readonly poolDir: string;
}): readonly { readonly of: AttachmentId; readonly name: string }[] {
  const at = layout(poolDir);
  return entries(at.saved).flatMap(id =>
    entries(join(at.saved, id))
      .filter(name => name.startsWith(IMPORT) && isGone(name.slice(IMPORT.length)))
      .map(name => ({ of: id as AttachmentId, name })),
  );
}

/** In the directory of the image itself, hidden, so that the renaming is one step. */
function besideOf(image: string, of: AttachmentId): string {
  return join(dirname(image), `.restore-${of}`);
}

async function cloneFile(from: string, to: string): Promise<void> {
  using source = open(from, constants.O_RDONLY | O_SUSPICIOUS);
  using target = open(to, WRITE_ANEW, 0o600);
  await ficloneAsync(target.fd, source.fd, to);
}

/** Looked at first, and changed only if it is good: resize2fs would make bad things worse. */
async function growExt4(image: string, signal: AbortSignal | undefined): Promise<void> {
  try {
    await runTool('e2fsck', ['-f', '-n', image], { signal });
  } catch (cause) {
    if (!isError(cause, 'SV_TOOL')) throw cause;
    throw new ShiftvolError('SV_GROW', `Cannot grow the ext4 in ${image}: it is damaged`, { cause });
  }
  await runTool('resize2fs', ['-f', image], { signal });
}

/** What it was; its owner is root, as of all that is made here. */
function keepMode(image: string, beside: string): void {
  const mode = statSync(image, { throwIfNoEntry: false })?.mode;
  if (mode === undefined) return;
  using file = open(beside, constants.O_RDONLY);
  fchmodSync(file.fd, mode & 0o7777);
}

async function syncFile(path: string): Promise<void> {
  const fd = openSync(path, 'r');
  try {
    await fsyncAsync(fd);
  } finally {
    closeSync(fd);
  }
}

/** How much of it nothing else in the pool has: what removing it gives back. Costs by its extents, of which there are few. */
function usage(path: string): { readonly exclusiveBytes: number; readonly sharedBytes: number } {
  using file = open(path, constants.O_RDONLY);
  let [exclusiveBytes, sharedBytes] = [0, 0];
  for (const { count, shared } of fileExtents(file.fd, path)) {
    if (shared) sharedBytes += count;
    else exclusiveBytes += count;
  }
  return { exclusiveBytes, sharedBytes };
}

async function* readSparse(path: string, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  using file = open(path, constants.O_RDONLY);
  yield* sparseChunks(file.fd, path, fstatSync(file.fd).size, signal);
}

function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (!isNodeErrno(error, 'ENOENT', 'ENOTEMPTY', 'EEXIST')) throw error;
  }
}

function told(error: unknown, image: string, name: string): unknown {
  if (isNodeErrno(error, 'ENOSPC', 'EDQUOT') || isErrno(error, 'ENOSPC', 'EDQUOT'))
    return new ShiftvolError('SV_NO_SPACE', `Cannot make snapshot "${name}" of ${image}: the pool is full`, {
      remedy: 'remove snapshots or templates, or "shiftvol pool grow --size SIZE"',
      cause: error,
    });
  if (isErrno(error, 'EXDEV', 'EOPNOTSUPP', 'ENOTSUP', 'EINVAL'))
    return new ShiftvolError(
      'SV_IMAGE_REFUSED',
      `Cannot make snapshot "${name}" of ${image}: it does not lie on the file system of the pool, which could share its blocks`,
      {
        field: 'attachment',
        remedy: 'move the image into the pool, or take a snapshot where it is stored',
        cause: error,
      },
    );
  if (isNodeErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP'))
    return new ShiftvolError('SV_VOLUME_NOT_FOUND', `Cannot make snapshot "${name}": there is no ${image}`, {
      cause: error,
    });
  return error;
}
