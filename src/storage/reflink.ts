/**
 * Templates and snapshots as files on XFS or btrfs: a snapshot is one FICLONE.
 *
 * Nothing is synced on the way. The journal has the intent before `snapshot` is called; then, after a power cut, the file is
 * - not there, or shorter than the template (FICLONE maps from the front and moves the end of the file along): nothing was ever
 *   acknowledged out of it, since each flush of the file system inside goes through the loop device to an fsync of this file, which
 *   takes its directory entry and its shared extents along. `snapshot`, called again by recover, makes it anew from the template;
 * - or whole. The template itself was synced before it got its name.
 */
import { closeSync, fsyncSync, linkSync, lstatSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Backend, Template } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import { isNodeErrno } from '../kernel/errno.ts';
import { canGrowMounted } from '../mount/grow.ts';
import { clone, entries, templateGone, told, unlinkIfThere } from './clone.ts';
import { layout, snapshotParts, templateName } from './layout.ts';
import { spareImages } from './spare-images.ts';
import { readTemplate } from './template-file.ts';
import { runTool } from './tool.ts';

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

    spares: spareImages(at),
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

/** One that is as its template, clean and mounted by nobody, is grown beforehand where it has to be. The mount grows others in a fraction of the time. */
async function growUnmounted({ fsType }: Template, path: string, signal: AbortSignal | undefined): Promise<void> {
  if (canGrowMounted(fsType)) return;
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

function poolThere(templates: string): void {
  if (statSync(templates, { throwIfNoEntry: false })?.isDirectory()) return;
  throw new ShiftvolError('SV_POOL_NOT_FOUND', `Cannot look for templates: there is no pool at ${templates}`, {
    remedy: 'import a template, or set up a pool first: "shiftvol pool create --size 20G"',
  });
}
