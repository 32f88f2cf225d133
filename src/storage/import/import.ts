/** `template import`: from a directory, tar, image, device or URL to a clean, read-only template. */

import { createHash } from 'node:crypto';
import { chmodSync, constants, fsyncSync, mkdirSync, realpathSync, rmdirSync, rmSync, statSync } from 'node:fs';
import type { Template } from '../../engine/ports.ts';
import { ShiftvolError } from '../../errors.ts';
import { open } from '../../kernel/fd.ts';
import { countExtents } from '../../kernel/fiemap.ts';
import { ficloneAsync } from '../../kernel/reflink.ts';
import { entries } from '../clone.ts';
import { layout, templateName } from '../layout.ts';
import { checkPool } from '../pool-status.ts';
import { templateText } from '../template-file.ts';
import { runTool } from '../tool.ts';
import { type CleanImage, cleanImage } from './clean.ts';
import { measure, sizeFor, type TreeSource } from './contents.ts';
import { copyInto, createImage, noSpace, type OnProgress, releaseUnwritten, sha256Of } from './copy.ts';
import { download, isUrl, parseUrl } from './download.ts';
import { fillFileSystem } from './fill.ts';
import { checkQcow2 } from './qcow2.ts';
import {
  checkChoice,
  checkIdBase,
  checkRequest,
  findSource,
  type ImportRequest,
  type ImportResult,
  type RemoteSource,
  readHead,
  type SourceKind,
} from './request.ts';
import { roomFor, save, tooLarge } from './save.ts';
import { openStaging, type Staging, setImmutable } from './staging.ts';
import { unpackedLimit } from './unpack.ts';

export const STAGES = ['download', 'copy', 'convert', 'fill', 'lay out', 'hash'] as const;
export type Stage = (typeof STAGES)[number];

export type ImportOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Called often, with bytes of this stage; what has no end that is known has total 0. */
  readonly onProgress?: (stage: Stage, doneBytes: number, totalBytes: number) => void;
  /** Where the bytes come from, when `from` is only their name. */
  readonly remote?: RemoteSource | undefined;
};

type Job = {
  readonly request: ImportRequest;
  readonly staging: Staging;
  readonly remote: RemoteSource | undefined;
  readonly signal: AbortSignal | undefined;
  progress(stage: Stage): OnProgress;
};

/** What an import would do, found out without doing it. For `--dry-run`. @throws what the import would refuse at once */
export function planImport(
  pool: { readonly poolDir: string },
  request: ImportRequest,
  remote?: RemoteSource,
): { readonly path: string; readonly source: string } {
  const at = layout(pool.poolDir);
  const path = at.image(request.name);
  checkRequest(request);
  if (entries(at.templates).includes(request.name))
    throw new ShiftvolError(
      'SV_TEMPLATE_EXISTS',
      `Cannot import template "${request.name}": there is one of this name`,
      { field: 'template' },
    );
  if (remote) {
    checkChoice(request.from, remote.format, request);
    return { path, source: request.from.split(':', 1)[0] ?? '' };
  }
  if (isUrl(request.from)) return { path, source: parseUrl(request.from).protocol.slice(0, -1) };
  return { path, source: findSource(request.from, request).kind };
}

/**
 * Makes a template: all of it, or nothing. The pool is mounted.
 * @throws SV_USAGE, SV_TEMPLATE_EXISTS, SV_LOCKED, SV_VOLUME_NOT_FOUND, SV_IMAGE_REFUSED, SV_CHECKSUM, SV_DOWNLOAD, SV_NO_SPACE, SV_TOOL,
 *   SV_MOUNT, SV_HOST; the signal's reason
 */
export async function importTemplate(
  pool: { readonly poolDir: string },
  request: ImportRequest,
  options: ImportOptions = {},
): Promise<ImportResult> {
  const { signal, onProgress, remote } = options;
  templateName(request.name);
  planImport(pool, request, remote);
  preparePool(pool.poolDir);
  const at = layout(pool.poolDir);
  using staging = await openStaging(at, request.name, signal);
  const progress = (stage: Stage) => (done: number, total: number) => onProgress?.(stage, done, total);
  const job: Job = { request, staging, remote, signal, progress };
  const source = await fetchSource(job);
  if (source.kind === 'dir') mustNotHoldPool(source.path, pool.poolDir);
  const made = await makeImage(job, source);
  const image = staging.path('image');
  const clean = await (request.sealed === undefined ? cleanImage(image, signal) : checkSealed(staging, signal));
  const idBase = agreedBase(request.idBase, clean.idBase);
  const sizeBytes = statSync(image).size;
  const sha256 = await sha256Of(image, sizeBytes, { signal, onProgress: job.progress('hash') });
  if (request.sealed !== undefined) mustMatch({ from: request.from, sha256: request.sealed }, sha256);
  const template: Template = {
    name: request.name,
    fsType: clean.fsType,
    uuid: clean.uuid,
    label: clean.label,
    sizeBytes,
    idBase,
    sha256,
    extents: seal(image),
    path: at.image(request.name),
    createdAt: new Date().toISOString(),
  };
  const immutable = setImmutable(image, true);
  await staging.publish(templateText(template), signal);
  return { template, immutable, deviceNodes: clean.deviceNodes, dropped: made };
}

/** It was cleaned where it was made; whether it is what is accepted here is found out on a clone, since that writes. */
async function checkSealed(staging: Staging, signal: AbortSignal | undefined): Promise<CleanImage> {
  const work = staging.path('work');
  {
    using from = open(staging.path('image'), constants.O_RDONLY);
    using to = open(work, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    await ficloneAsync(to.fd, from.fd, work);
  }
  const clean = await cleanImage(work, signal);
  rmSync(work);
  return clean;
}

/** On a file system that can share extents a pool is nothing but its directory. */
function preparePool(poolDir: string): void {
  const made = mkdirSync(poolDir, { recursive: true, mode: 0o700 });
  try {
    checkPool(poolDir);
  } catch (error) {
    if (made !== undefined) rmdirSync(poolDir);
    throw error;
  }
}

/** What comes from elsewhere becomes a file of the staging directory first: what is looked at is then what is used. */
async function fetchSource(job: Job): Promise<SourceKind> {
  const { request, staging, remote, signal, progress } = job;
  if (remote) return await fetchRemote(job, remote);
  if (!isUrl(request.from)) return findSource(request.from, request);
  const to = staging.path('source');
  const { sha256 } = await download(parseUrl(request.from), to, { signal, onProgress: progress('download') });
  mustMatch(request, sha256);
  return findSource(to, { ...request, from: to });
}

async function fetchRemote({ request, staging, signal, progress }: Job, remote: RemoteSource): Promise<SourceKind> {
  const { from } = request;
  const to = staging.path('source');
  const limit = roomFor(to);
  const { sizeBytes = 0, format } = remote;
  if (sizeBytes > limit) throw tooLarge(from, sizeBytes, limit);
  const body = await remote.open(signal ?? AbortSignal.any([]));
  const saved = await save(body, to, { from, signal, total: () => sizeBytes, onProgress: progress('download') });
  mustMatch(request, saved.sha256);
  return findSource(to, { ...request, from: to, format });
}

/** A tree that holds the pool would have to hold the image that is made of it. Mounted there it is another file system, left out. */
function mustNotHoldPool(tree: string, poolDir: string): void {
  const [outer, inner] = [realpathSync(tree), realpathSync(poolDir)];
  if (!`${inner}/`.startsWith(outer === '/' ? '/' : `${outer}/`) || statSync(outer).dev !== statSync(inner).dev) return;
  throw new ShiftvolError('SV_USAGE', `Cannot import ${tree}: the pool ${poolDir} lies in it`, { field: 'from' });
}

async function makeImage(job: Job, source: SourceKind): Promise<{ devices: number; sockets: number }> {
  switch (source.kind) {
    case 'dir':
    case 'tar':
      return await makeFromTree(job, source);
    case 'raw':
      await makeFromRaw(job, source);
      return { devices: 0, sockets: 0 };
    case 'qcow2':
      await makeFromQcow2(job, source);
      return { devices: 0, sockets: 0 };
    default:
      return source satisfies never;
  }
}

async function makeFromTree({ request, staging, signal, progress }: Job, source: TreeSource) {
  const work = staging.path('work');
  const room = roomFor(work);
  const limitBytes = unpackedLimit(request.sizeBytes ?? room);
  const contents = await measure(source, limitBytes, signal);
  const sizeBytes = request.sizeBytes ?? sizeFor(contents);
  // A file without any blocks may say that it has terabytes, and the tables for those are written.
  if (source.kind === 'tar' && request.sizeBytes === undefined && contents.dataBytes > room)
    throw tooLarge(request.from, contents.dataBytes, room);
  const hash = createHash('sha256');
  const { devices } = await fillFileSystem(source, work, {
    signal,
    onProgress: progress('fill'),
    onChunk: chunk => void (source.kind === 'tar' && hash.update(chunk)),
    fsType: request.fsType ?? 'ext4',
    label: request.name,
    idBase: request.idBase ?? 0,
    sizeBytes,
    contents,
    limitBytes,
  });
  if (source.kind === 'tar' && source.path !== staging.path('source')) mustMatch(request, hash.digest('hex'));
  // Written by a file system the blocks lie as they came; copied they lie in one piece.
  await copyInto(work, staging.path('image'), sizeBytes, { signal, onProgress: progress('lay out'), hash: false });
  rmSync(work);
  return { devices, sockets: contents.sockets };
}

async function makeFromRaw({ request, staging, signal, progress }: Job, source: Extract<SourceKind, { kind: 'raw' }>) {
  const sha256 = await copyInto(source.path, staging.path('image'), source.sizeBytes, {
    signal,
    device: source.device,
    onProgress: progress('copy'),
    hash: request.sha256 !== undefined,
  });
  if (sha256 !== undefined) mustMatch(request, sha256);
  rmSync(staging.path('source'), { force: true });
}

/** Copied before it is looked at: whoever can write to the source could change it between our look and qemu-img's. */
async function makeFromQcow2(
  { request, staging, signal, progress }: Job,
  source: Extract<SourceKind, { kind: 'qcow2' }>,
) {
  const copy = staging.path('source');
  if (source.path !== copy) {
    checkQcow2(readHead(source.path));
    mustMatch(
      request,
      await copyInto(source.path, copy, source.sizeBytes, {
        signal,
        onProgress: progress('copy'),
        hash: request.sha256 !== undefined,
      }),
    );
  }
  const { virtualBytes } = checkQcow2(readHead(copy));
  const image = staging.path('image');
  const file = await createImage(image, virtualBytes);
  try {
    const convert = ['convert', '-p', '-n', '--target-is-zero', '-S', '1M', '-f', 'qcow2', '-O', 'raw', copy, image];
    await runTool('qemu-img', convert, { signal, onOutput: percent(virtualBytes, progress('convert')) });
    await releaseUnwritten(file.fd, image);
  } catch (error) {
    throw noSpace(error, image);
  } finally {
    file[Symbol.dispose]();
  }
  rmSync(copy);
}

/** qemu-img writes `    (12.34/100%)\r`. */
function percent(totalBytes: number, onProgress: OnProgress): (chunk: Buffer) => void {
  return chunk => {
    const found = [...chunk.toString('latin1').matchAll(/\((\d+\.\d+)\/100%\)/g)].at(-1);
    if (found) onProgress((Number(found[1]) / 100) * totalBytes, totalBytes);
  };
}

function mustMatch({ sha256, from }: Pick<ImportRequest, 'sha256' | 'from'>, found: string | undefined): void {
  if (sha256 === undefined || found === undefined || sha256.toLowerCase() === found) return;
  throw new ShiftvolError(
    'SV_CHECKSUM',
    `Cannot import ${from}: its sha256 is ${found}, ${sha256.toLowerCase()} was expected`,
    { field: 'sha256' },
  );
}

/** The base is a fact of the image, never a guess: what was asked for has to be what the root directory has. */
function agreedBase(asked: number | undefined, found: number): number {
  if (asked !== undefined && asked !== found)
    throw new ShiftvolError(
      'SV_IMAGE_REFUSED',
      `Cannot use the id base ${asked}: the root directory of the image belongs to ${found}:${found}`,
      { field: 'idBase', remedy: `leave it out, or give ${found}` },
    );
  checkIdBase(found);
  return found;
}

/** Read-only, and on the disk. Returns its extents. */
function seal(image: string): number {
  using file = open(image, constants.O_RDONLY);
  fsyncSync(file.fd);
  chmodSync(image, 0o400);
  return countExtents(file.fd, image);
}
