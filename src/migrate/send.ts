/** A volume as a stream of what differs from its template, or from what the receiver has of it. */
import { constants, fstatSync, read } from 'node:fs';
import { promisify } from 'node:util';
import { ShiftvolError } from '../errors.ts';
import { type Fd, open } from '../kernel/fd.ts';
import { fileExtents } from '../kernel/fiemap.ts';
import { type Change, changesBetween, joined } from './changes.ts';
import { BLOCK, Digest, encodeFrame, encodeHeader, type Frame, MOST_ZEROS, sha256Of } from './frame.ts';
import type { Header } from './header.ts';

/** A frame of its own costs more than to send so much that the receiver has. */
const GAP = 32 * 1024;
/** Blocks that are read and compressed ahead of the one that is sent. */
const AHEAD = 4;
const readAsync = promisify(read);

/** `image` does not change any more: a snapshot. `before`: a file that it shares blocks with, and that the receiver has the bytes of. */
export type Sendable = {
  readonly header: Header;
  readonly image: string;
  readonly before: string;
  /** The template's image, where it is to go along. */
  readonly template?: string;
};

export type SendOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Blocks that the receiver has from a try that was cut off: `keyOf` each. */
  readonly has?: (block: string) => boolean;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
};

/** `changedBytes`: of the volume, as they lie there; `sentBytes`: what went into the stream. */
export type Sent = { readonly changedBytes: number; readonly sentBytes: number; readonly keptBytes: number };

export function keyOf(part: 'template' | 'volume', offset: number, sha256: Buffer): string {
  return `${part} ${offset} ${sha256.toString('hex')}`;
}

/** Nothing is read before the stream is. */
export async function* sendVolume(sendable: Sendable, options: SendOptions): AsyncGenerator<Buffer, Sent> {
  const { header, image, before, template } = sendable;
  let [sentBytes, keptBytes] = [0, 0];
  const digest = new Digest(header);
  const begin = encodeHeader(header);
  sentBytes += begin.length;
  yield begin;
  const parts: Part[] = [];
  using old = open(before, constants.O_RDONLY);
  using file = open(image, constants.O_RDONLY);
  using whole = template === undefined ? undefined : open(template, constants.O_RDONLY);
  if (template !== undefined && whole) {
    const { size } = fstatSync(whole.fd);
    const changes = changesBetween([], fileExtents(whole.fd, template), size);
    parts.push({ name: 'template', fd: whole.fd, object: template, changes });
  }
  const changes = changesBetween(fileExtents(old.fd, before), fileExtents(file.fd, image), header.sizeBytes);
  parts.push({ name: 'volume', fd: file.fd, object: image, changes });
  const totalBytes = parts.reduce((sum, part) => sum + bytesIn(part.changes), 0);
  let done = 0;
  for (const part of parts) {
    for await (const [frame, buffers] of ahead(encoded(part, options), AHEAD)) {
      options.signal?.throwIfAborted();
      digest.update(frame);
      if (frame.kind === 'kept') keptBytes += frame.length;
      for (const buffer of buffers) {
        sentBytes += buffer.length;
        yield buffer;
      }
      if (frame.kind === 'data') done += frame.bytes.length;
      options.onProgress?.(Math.min(done, totalBytes), totalBytes);
    }
    if (part.name !== 'template') continue;
    digest.update({ kind: 'template' });
    yield* await encodeFrame({ kind: 'template' });
  }
  yield* await encodeFrame({ kind: 'end', digest: digest.end() });
  return { changedBytes: bytesIn(changes), sentBytes, keptBytes };
}

/** How much of a volume differs, without reading it. */
export function changedBytes(image: string, before: string): number {
  using old = open(before, constants.O_RDONLY);
  using file = open(image, constants.O_RDONLY);
  const { size } = fstatSync(file.fd);
  return bytesIn(changesBetween(fileExtents(old.fd, before), fileExtents(file.fd, image), size));
}

type Part = {
  readonly name: 'template' | 'volume';
  readonly fd: Fd;
  readonly object: string;
  readonly changes: readonly Change[];
};
type Sendably = Exclude<Frame, { kind: 'end' }>;
type Encoded = readonly [frame: Sendably, buffers: readonly Buffer[]];

function bytesIn(changes: readonly Change[]): number {
  return changes.reduce((sum, { kind, count }) => sum + (kind === 'data' ? count : 0), 0);
}

/** Each a promise of its own: several are compressed at a time. */
function* encoded({ name, fd, object, changes }: Part, { has }: SendOptions): Generator<Promise<Encoded>> {
  for (const { kind, start, count } of joined(changes, GAP)) {
    if (kind === 'zeros')
      for (let at = start; at < start + count; at += MOST_ZEROS)
        yield encode({ kind, offset: at, length: Math.min(MOST_ZEROS, start + count - at) });
    else
      for (const [offset, length] of blocks(start, count))
        yield readBlock(fd, offset, length, object).then(frame => {
          const isThere = frame.kind === 'data' && has?.(keyOf(name, offset, frame.sha256)) === true;
          return encode(isThere ? { kind: 'kept', offset, length, sha256: frame.sha256 } : frame);
        });
  }
}

/** Cut where a grid of blocks is, so that a change in front does not move what comes after it. */
function* blocks(start: number, count: number): Generator<readonly [offset: number, length: number]> {
  for (let at = start; at < start + count; ) {
    const end = Math.min((Math.floor(at / BLOCK) + 1) * BLOCK, start + count);
    yield [at, end - at];
    at = end;
  }
}

async function encode(frame: Sendably): Promise<Encoded> {
  return [frame, await encodeFrame(frame)];
}

async function readBlock(fd: Fd, offset: number, length: number, object: string): Promise<Sendably> {
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await readAsync(fd, bytes, done, length - done, offset + done);
    if (bytesRead === 0)
      throw new ShiftvolError('SV_IMAGE_REFUSED', `Cannot read ${object}: it ends after ${offset + done} bytes`);
    done += bytesRead;
  }
  return isZero(bytes) ? { kind: 'zeros', offset, length } : { kind: 'data', offset, bytes, sha256: sha256Of(bytes) };
}

const ZEROS = Buffer.alloc(BLOCK);
function isZero(bytes: Buffer): boolean {
  return bytes[0] === 0 && bytes.equals(ZEROS.subarray(0, bytes.length));
}

/** In their order, so many begun ahead. None is under way any more when it ends, in whichever way: they read from what is closed then. */
async function* ahead<T>(work: Iterable<Promise<T>>, count: number): AsyncGenerator<T> {
  const begun: Promise<T>[] = [];
  try {
    for (const one of work) {
      // Its failure is thrown when it is its turn, and is nobody's before.
      one.catch(() => undefined);
      begun.push(one);
      const [first] = begun;
      if (begun.length <= count || !first) continue;
      yield await first;
      begun.shift();
    }
    for (const one of begun) yield await one;
  } finally {
    await Promise.allSettled(begun);
  }
}
