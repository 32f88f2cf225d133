/**
 * The stream of a volume: magic, header (u32 length, JSON), then frames of a fixed head (kind, offset, length, stored length, sha256)
 * and a body. Numbers are little endian. Each block is compressed on its own, so that none needs another to be read, or to be left out.
 */
import { createHash, type Hash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import { ShiftvolError } from '../errors.ts';
import type { ByteReader } from './byte-reader.ts';
import { type Header, notAStream, parseHeader, parseShared, type Shared } from './header.ts';

const MAGIC = Buffer.from('shiftvol-volume\n', 'latin1');
const SHARED_MAGIC = Buffer.from('shiftvol-shared\n', 'latin1');
/** Largest block. */
export const BLOCK = 4 * 2 ** 20;
/** Longest run of zeros in one frame. */
export const MOST_ZEROS = 2 ** 30;
const MOST_HEADER = 64 * 1024;
const HEAD = 49;
const SHA256 = 32;
const NO_SHA256 = Buffer.alloc(SHA256);
const KINDS = { packed: 1, plain: 2, zeros: 3, kept: 4, template: 5, end: 9 } as const;
/** The fastest: the network is seldom faster than that. */
const LEVEL = 1;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** `kept`: the receiver has said that it has this block. `template`: what came so far is the template's image. */
export type Frame =
  | { readonly kind: 'data'; readonly offset: number; readonly bytes: Buffer; readonly sha256: Buffer }
  | { readonly kind: 'kept'; readonly offset: number; readonly length: number; readonly sha256: Buffer }
  | { readonly kind: 'zeros'; readonly offset: number; readonly length: number }
  | { readonly kind: 'template' }
  | { readonly kind: 'end'; readonly digest: Buffer };

export function lengthOf(frame: Frame): number {
  return frame.kind === 'data' ? frame.bytes.length : 'length' in frame ? frame.length : 0;
}

export function encodeHeader(header: Header): Buffer {
  return prefixed(MAGIC, header);
}

function prefixed(magic: Buffer, value: object): Buffer {
  const text = Buffer.from(JSON.stringify(value));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return Buffer.concat([magic, length, text]);
}

export function encodeShared(shared: Shared): Buffer {
  return prefixed(SHARED_MAGIC, shared);
}

export type Head =
  | { readonly kind: 'volume'; readonly header: Header }
  | { readonly kind: 'shared'; readonly shared: Shared };

/** What comes next in the input; undefined at its end. @throws SV_MESSAGE */
export async function readHead(reader: ByteReader): Promise<Head | undefined> {
  const magic = await reader.takeOrEnd(MAGIC.length);
  if (magic === undefined) return undefined;
  const isShared = magic.equals(SHARED_MAGIC);
  if (!isShared && !magic.equals(MAGIC)) throw notAStream('it does not begin as one');
  const length = (await reader.take(4)).readUInt32LE();
  if (length > MOST_HEADER) throw notAStream(`its header has ${length} bytes, ${MOST_HEADER} are accepted`);
  const text = (await reader.take(length)).toString('utf8');
  return isShared ? { kind: 'shared', shared: parseShared(text) } : { kind: 'volume', header: parseHeader(text) };
}

/** Data is compressed where that makes it smaller. */
export async function encodeFrame(frame: Frame): Promise<readonly Buffer[]> {
  switch (frame.kind) {
    case 'data': {
      const packed = await compress(frame.bytes, { params: { [constants.ZSTD_c_compressionLevel]: LEVEL } });
      const isSmaller = packed.length < frame.bytes.length;
      const body = isSmaller ? packed : frame.bytes;
      const kind = isSmaller ? KINDS.packed : KINDS.plain;
      return [head(kind, frame.offset, frame.bytes.length, body.length, frame.sha256), body];
    }
    case 'kept':
      return [head(KINDS.kept, frame.offset, frame.length, 0, frame.sha256)];
    case 'zeros':
      return [head(KINDS.zeros, frame.offset, frame.length, 0, NO_SHA256)];
    case 'template':
      return [head(KINDS.template, 0, 0, 0, NO_SHA256)];
    case 'end':
      return [head(KINDS.end, 0, 0, 0, frame.digest)];
    default:
      return frame satisfies never;
  }
}

function head(kind: number, offset: number, length: number, stored: number, sha256: Buffer): Buffer {
  const bytes = Buffer.alloc(HEAD);
  bytes.writeUInt8(kind, 0);
  bytes.writeBigUInt64LE(BigInt(offset), 1);
  bytes.writeUInt32LE(length, 9);
  bytes.writeUInt32LE(stored, 13);
  sha256.copy(bytes, 17);
  return bytes;
}

/** Never holds more than two blocks. Data is verified. @throws SV_MESSAGE; SV_CHECKSUM */
export async function readFrame(reader: ByteReader): Promise<Frame> {
  const bytes = await reader.take(HEAD);
  const kind = bytes.readUInt8(0);
  const offset = Number(bytes.readBigUInt64LE(1));
  const [length, stored] = [bytes.readUInt32LE(9), bytes.readUInt32LE(13)];
  const sha256 = Buffer.from(bytes.subarray(17, 17 + SHA256));
  if (!Number.isSafeInteger(offset)) throw notAStream('a block lies beyond all sizes');
  switch (kind) {
    case KINDS.packed:
    case KINDS.plain: {
      if (length === 0 || length > BLOCK || stored > length)
        throw notAStream(`a block has ${length} bytes in ${stored}, ${BLOCK} are accepted`);
      const body = await reader.take(stored);
      const data = kind === KINDS.packed ? await unpack(body, length) : Buffer.from(body);
      if (data.length !== length) throw notAStream(`a block has ${data.length} bytes, ${length} were announced`);
      if (!sha256Of(data).equals(sha256)) throw damaged(`the block at ${offset} is another one than was sent`);
      return { kind: 'data', offset, bytes: data, sha256 };
    }
    case KINDS.kept:
      if (length === 0 || length > BLOCK) throw notAStream(`a block has ${length} bytes, ${BLOCK} are accepted`);
      return { kind: 'kept', offset, length, sha256 };
    case KINDS.zeros:
      if (length === 0 || length > MOST_ZEROS)
        throw notAStream(`a hole has ${length} bytes, ${MOST_ZEROS} are accepted`);
      return { kind: 'zeros', offset, length };
    case KINDS.template:
      return { kind: 'template' };
    case KINDS.end:
      return { kind: 'end', digest: sha256 };
    default:
      throw notAStream(`there is no frame of kind ${kind}`);
  }
}

async function unpack(body: Buffer, length: number): Promise<Buffer> {
  try {
    return await decompress(body, { maxOutputLength: length });
  } catch (cause) {
    throw notAStream('a block is not what zstd makes', cause);
  }
}

export function sha256Of(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}

export function damaged(what: string): ShiftvolError {
  return new ShiftvolError('SV_CHECKSUM', `Cannot take over the volume: ${what}`, {
    remedy: 'send it again: what has arrived whole is not sent twice',
  });
}

/** Over all that a stream says, whether a block's bytes came with it or were there: two that agree have led to the same image. */
export class Digest {
  readonly #hash: Hash;

  constructor(header: Header) {
    this.#hash = createHash('sha256').update(encodeHeader(header));
  }

  update(frame: Exclude<Frame, { kind: 'end' }>): void {
    const isBlock = frame.kind === 'data' || frame.kind === 'kept';
    const kind = isBlock ? KINDS.plain : KINDS[frame.kind];
    const offset = 'offset' in frame ? frame.offset : 0;
    this.#hash.update(head(kind, offset, lengthOf(frame), 0, isBlock ? frame.sha256 : NO_SHA256));
  }

  end(): Buffer {
    return this.#hash.digest();
  }
}
