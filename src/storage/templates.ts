/** Listing, checking and removing templates. */
import { constants, renameSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Template } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { open } from '../kernel/fd.ts';
import { FS_IMMUTABLE_FL, getInodeFlags } from '../kernel/inode-flags.ts';
import { entries } from './clone.ts';
import { type CopyOptions, sha256Of } from './import/copy.ts';
import { discard, discardStale, sync, withPoolLock } from './import/staging.ts';
import { type Layout, layout, templateName } from './layout.ts';
import { readTemplate } from './template-file.ts';

type Pool = { readonly poolDir: string };
export type TemplateWithUse = Template & { readonly snapshots: number };
export type Verified = {
  readonly name: string;
  readonly sha256: string;
  readonly readOnly: boolean;
  readonly immutable: boolean;
};

export function listTemplates({ poolDir }: Pool): readonly TemplateWithUse[] {
  const at = layout(poolDir);
  return entries(at.templates)
    .toSorted()
    .map(name => withUse(at, name));
}

/** @throws SV_TEMPLATE_NOT_FOUND */
export function showTemplate({ poolDir }: Pool, name: string): TemplateWithUse {
  return withUse(layout(poolDir), templateName(name));
}

/**
 * Reads the whole image again.
 * @throws SV_TEMPLATE_NOT_FOUND; SV_CHECKSUM: it holds something else than after its import; SV_IMAGE_REFUSED: it could be written
 */
export async function verifyTemplate({ poolDir }: Pool, name: string, options: CopyOptions): Promise<Verified> {
  const template = readTemplate(layout(poolDir), templateName(name));
  const found = statSync(template.path);
  const readOnly = (found.mode & 0o222) === 0;
  if (!readOnly)
    throw new ShiftvolError(
      'SV_IMAGE_REFUSED',
      `Cannot vouch for template "${name}": ${template.path} can be written, its mode is ${(found.mode & 0o777).toString(8)}, 400 is accepted`,
      { field: 'template' },
    );
  const sha256 = await sha256Of(template.path, template.sizeBytes, options);
  if (sha256 !== template.sha256 || found.size !== template.sizeBytes)
    throw new ShiftvolError(
      'SV_CHECKSUM',
      `Cannot vouch for template "${name}": its sha256 is ${sha256}, ${template.sha256} was noted at its import`,
      {
        field: 'template',
        remedy: 'import it again under another name; snapshots hold what the template had when they were taken',
      },
    );
  return { name, sha256, readOnly, immutable: isImmutable(template.path) };
}

/** What `removeTemplate` would refuse, without doing anything. @throws SV_TEMPLATE_NOT_FOUND, SV_TEMPLATE_IN_USE */
export function planRemoval(pool: Pool, name: string): TemplateWithUse {
  const template = showTemplate(pool, name);
  if (template.snapshots > 0) throw inUse(name, template.snapshots);
  return template;
}

/**
 * The directory of its snapshots goes first: the kernel removes it only when it is empty, and without it no snapshot can be made. Then
 * the template loses its name at once, and its files after that. Cut off in between, the next import or recover finishes it, or, before
 * the renaming, makes the directory again.
 * @throws SV_TEMPLATE_NOT_FOUND, SV_TEMPLATE_IN_USE, SV_LOCKED
 */
export async function removeTemplate(pool: Pool, name: string, signal?: AbortSignal): Promise<void> {
  const at = layout(pool.poolDir);
  planRemoval(pool, name);
  await withPoolLock(at, signal, () => {
    discardStale(at);
    takeSnapshotsAway(at, name);
    const going = join(at.templates, `.remove-${name}`);
    renameSync(at.templateDir(name), going);
    sync(at.templates);
    discard(going);
  });
}

function takeSnapshotsAway(at: Layout, name: string): void {
  try {
    rmdirSync(at.snapshotDir(name));
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT')) return;
    if (!isNodeErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error;
    throw inUse(name, entries(at.snapshotDir(name)).length);
  }
}

function withUse(at: Layout, name: string): TemplateWithUse {
  return { ...readTemplate(at, name), snapshots: entries(at.snapshotDir(name)).length };
}

function inUse(name: string, snapshots: number): ShiftvolError {
  return new ShiftvolError(
    'SV_TEMPLATE_IN_USE',
    `Cannot remove template "${name}": ${snapshots} snapshots of it exist`,
    {
      field: 'template',
      remedy: 'destroy the attachments that use it first: "shiftvol list"',
    },
  );
}

function isImmutable(path: string): boolean {
  using file = open(path, constants.O_RDONLY);
  try {
    return (getInodeFlags(file.fd, path) & FS_IMMUTABLE_FL) !== 0;
  } catch (error) {
    if (isErrno(error, 'ENOTTY', 'ENOTSUP', 'EOPNOTSUPP')) return false;
    throw error;
  }
}
