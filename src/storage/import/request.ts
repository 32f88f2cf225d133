/** What an import is asked to do, and what it finds at the source. */
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import type { FsType } from '../../engine/model.ts';
import type { Template } from '../../engine/ports.ts';
import { ShiftvolError } from '../../errors.ts';
import { HIGHEST_ID, LOWEST_HOST_ID } from '../../idmap/idmap.ts';
import { isNodeErrno } from '../../kernel/errno.ts';
import { isQcow2, QCOW2_HEAD_BYTES } from './qcow2.ts';

/** So many bytes of a file tell what it is. */
export const HEAD_BYTES = QCOW2_HEAD_BYTES;

export const FORMATS = ['auto', 'tar', 'raw', 'qcow2'] as const;
export type Format = (typeof FORMATS)[number];

export type ImportRequest = {
  readonly name: string;
  /** A directory, a file, a block device, or an http or https URL. */
  readonly from: string;
  /** What a file is. `auto` goes by its first bytes; a block device is always raw. */
  readonly format?: Format;
  /** Of a tree or tar. Default: ext4. */
  readonly fsType?: FsType;
  /** Of a tree or tar. Default: half as much again as the files take, and 256 MiB. */
  readonly sizeBytes?: number;
  /** First id on disk. Default: 0 for a tree or tar, what the root directory of an image has. */
  readonly idBase?: number;
  /** Of the source file. */
  readonly sha256?: string;
  /** sha256 of what is a template on another host already: it is taken as it is, byte for byte, or refused. */
  readonly sealed?: string;
};

/** A source that some service gives as a stream, `ImportRequest.from` being its name: an image of Glance. */
export type RemoteSource = {
  /** What the service says that it is; bytes that look like something else do not change it. */
  readonly format: Exclude<Format, 'auto'>;
  /** Undefined: it does not say. */
  readonly sizeBytes: number | undefined;
  /** The stream fails at its end, if what came is not what it should be. */
  open(signal: AbortSignal): Promise<Readable>;
};

export type ImportResult = {
  readonly template: Template;
  /** Device nodes and sockets of a tree or tar, which were left out. */
  readonly dropped: { readonly devices: number; readonly sockets: number };
  /** Device nodes that an image came with: dead on every mount of ours (nodev). */
  readonly deviceNodes: number;
  /** Whether the image could be made immutable. */
  readonly immutable: boolean;
};

export type Compression = 'none' | 'gzip' | 'xz' | 'zstd' | 'bzip2';
export type SourceKind =
  | { readonly kind: 'dir'; readonly path: string }
  | { readonly kind: 'tar'; readonly path: string; readonly compression: Compression }
  | { readonly kind: 'raw'; readonly path: string; readonly sizeBytes: number; readonly device: boolean }
  | { readonly kind: 'qcow2'; readonly path: string; readonly sizeBytes: number };

/** Ids that a tree's file system has room for from its base on: what an instance gets unless told otherwise. */
export const ID_COUNT = 65536;

/** @throws SV_USAGE naming the field */
export function checkRequest(request: ImportRequest): void {
  const { idBase, sha256, sizeBytes, from } = request;
  if (idBase !== undefined) checkIdBase(idBase);
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256))
    throw usage('sha256', `Cannot check the sha256 ${JSON.stringify(sha256)}: 64 hexadecimal digits are accepted`);
  if (sizeBytes !== undefined && (!Number.isSafeInteger(sizeBytes) || sizeBytes < 2 ** 24 || sizeBytes > 2 ** 46))
    throw usage('size', `Cannot make a file system of ${sizeBytes} bytes: 16 MiB to 64 TiB is accepted`);
  if (from === '' || from.includes('\0'))
    throw usage('from', `Cannot import from ${JSON.stringify(from)}: a path or URL is accepted`);
}

/** Below 65536 are the host's own users: a base there is 0, for a template that shows its files' ids as they are. */
export function checkIdBase(idBase: number): void {
  const fits = Number.isSafeInteger(idBase) && idBase + ID_COUNT - 1 <= HIGHEST_ID;
  if (fits && (idBase === 0 || idBase >= LOWEST_HOST_ID)) return;
  throw usage('idBase', `Cannot use the id base ${idBase}: 0, or 65536 to ${HIGHEST_ID - ID_COUNT + 1} is accepted`);
}

/** Looks at a path, not at a URL. @throws SV_VOLUME_NOT_FOUND; SV_USAGE: options that do not fit the source; SV_IMAGE_REFUSED */
export function findSource(from: string, request: ImportRequest): SourceKind {
  const path = resolve(from);
  const source = classify(path, request.format ?? 'auto');
  if ('sizeBytes' in source && source.sizeBytes === 0)
    throw new ShiftvolError('SV_IMAGE_REFUSED', `Cannot import ${path}: it is empty`, { field: 'from' });
  checkChoice(path, source.kind, request);
  if (request.sha256 !== undefined && source.kind === 'dir')
    throw usage('sha256', `Cannot check the sha256 of ${path}: it is a directory, a file or URL has one`);
  return source;
}

/** @throws SV_USAGE: a file system was chosen for what has one */
export function checkChoice(from: string, kind: SourceKind['kind'], { fsType, sizeBytes }: ImportRequest): void {
  const image = kind === 'raw' || kind === 'qcow2';
  if (!image || (fsType === undefined && sizeBytes === undefined)) return;
  throw usage(
    fsType === undefined ? 'size' : 'fs',
    `Cannot choose the file system of ${from}: it is an image and has one`,
  );
}

function classify(path: string, format: Format): SourceKind {
  const found = look(path);
  if (found.isDirectory()) {
    if (format === 'auto') return { kind: 'dir', path };
    throw usage('format', `Cannot read ${path} as ${format}: it is a directory`);
  }
  if (found.isBlockDevice()) {
    if (format !== 'auto' && format !== 'raw')
      throw usage('format', `Cannot read ${path} as ${format}: a block device is always raw`);
    return { kind: 'raw', path, sizeBytes: deviceSize(found.rdev), device: true };
  }
  if (!found.isFile())
    throw usage('from', `Cannot import from ${path}: it is neither a directory, a file nor a block device`);
  const head = readHead(path);
  const compression = compressionOf(head);
  if (format === 'qcow2' || (format === 'auto' && isQcow2(head))) return { kind: 'qcow2', path, sizeBytes: found.size };
  if (format === 'tar' || (format === 'auto' && isArchive(head))) return { kind: 'tar', path, compression };
  return { kind: 'raw', path, sizeBytes: found.size, device: false };
}

/** By its first bytes a tar, compressed or not. */
export function isArchive(head: Buffer): boolean {
  return compressionOf(head) !== 'none' || isTar(head);
}

function look(path: string) {
  try {
    return statSync(path);
  } catch (error) {
    if (!isNodeErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG')) throw error;
    throw new ShiftvolError(
      'SV_VOLUME_NOT_FOUND',
      `Cannot import from ${path}: there is no such file, directory or device`,
      { field: 'from', cause: error },
    );
  }
}

export function readHead(path: string): Buffer {
  const fd = openSync(path, 'r');
  try {
    const head = Buffer.alloc(HEAD_BYTES);
    return head.subarray(0, readSync(fd, head, 0, head.length, 0));
  } finally {
    closeSync(fd);
  }
}

function compressionOf(head: Buffer): Compression {
  const begins = (hex: string): boolean => head.subarray(0, hex.length / 2).toString('hex') === hex;
  if (begins('1f8b')) return 'gzip';
  if (begins('fd377a585a00')) return 'xz';
  if (begins('28b52ffd')) return 'zstd';
  if (begins('425a68')) return 'bzip2';
  return 'none';
}

const isTar = (head: Buffer): boolean => head.subarray(257, 262).toString('latin1') === 'ustar';

function deviceSize(rdev: number): number {
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * 512;
}

function usage(field: string, text: string): ShiftvolError {
  return new ShiftvolError('SV_USAGE', text, { field });
}
