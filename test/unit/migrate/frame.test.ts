import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { isError } from '../../../src/errors.ts';
import { ByteReader } from '../../../src/migrate/byte-reader.ts';
import {
  BLOCK,
  Digest,
  encodeFrame,
  encodeHeader,
  encodeShared,
  type Frame,
  readFrame,
  readHead,
  sha256Of,
} from '../../../src/migrate/frame.ts';
import { FORMAT, type Header } from '../../../src/migrate/header.ts';

export const HEADER: Header = {
  format: FORMAT,
  attachment: '0123456789abcdef',
  instance: 'c1',
  role: 'volume',
  target: '/mnt/data',
  readOnly: false,
  fsType: 'ext4',
  idBase: 0,
  sizeBytes: 2 ** 26,
  template: { name: 'web', sha256: 'a'.repeat(64), sizeBytes: 2 ** 26, fsType: 'ext4', idBase: 0, included: false },
  version: 'b'.repeat(64),
  last: true,
};

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
const readerOf = (bytes: Buffer, size = bytes.length || 1) => new ByteReader(pieces(bytes, size));
const data = (offset: number, bytes: Buffer): Frame => ({ kind: 'data', offset, bytes, sha256: sha256Of(bytes) });

test('what is written is read again, however the stream is cut', async () => {
  const frames: readonly Frame[] = [
    data(0, Buffer.alloc(70_000, 'shiftvol')),
    data(BLOCK, randomBytes(1000)),
    { kind: 'kept', offset: 2 * BLOCK, length: 4096, sha256: sha256Of(Buffer.from('x')) },
    { kind: 'zeros', offset: 3 * BLOCK, length: 2 ** 30 },
    { kind: 'template' },
    { kind: 'end', digest: sha256Of(Buffer.from('y')) },
  ];
  const encoded = [encodeHeader(HEADER), ...(await Promise.all(frames.map(encodeFrame))).flat()];
  const whole = Buffer.concat(encoded);
  assert.ok(whole.length < 4000, 'what can be compressed is');
  for (const size of [1, 7, 4096, whole.length]) {
    const reader = readerOf(whole, size);
    assert.deepEqual(await readHead(reader), { kind: 'volume', header: HEADER });
    for (const frame of frames) assert.deepEqual(await readFrame(reader), frame);
    assert.equal(await readHead(reader), undefined);
  }
});

test('a stream that is cut anywhere is refused', async () => {
  const whole = Buffer.concat([encodeHeader(HEADER), ...(await encodeFrame(data(0, Buffer.alloc(100, 'x'))))]);
  for (let length = 1; length < whole.length; length++) {
    const reader = readerOf(whole.subarray(0, length));
    await assert.rejects(
      async () => {
        await readHead(reader);
        await readFrame(reader);
      },
      e => isError(e, 'SV_MESSAGE'),
      `${length}`,
    );
  }
});

test('a block that is another one than its sha256 says is refused', async () => {
  const [head = Buffer.alloc(0), body = Buffer.alloc(0)] = await encodeFrame(data(0, randomBytes(500)));
  body.writeUInt8(body.readUInt8(100) ^ 1, 100);
  await assert.rejects(readFrame(readerOf(Buffer.concat([head, body]))), e => isError(e, 'SV_CHECKSUM'));
});

test('a small block that would become a large one takes no more memory than was announced', async () => {
  const bomb = zstdCompressSync(Buffer.alloc(2 ** 26));
  const [head = Buffer.alloc(0)] = await encodeFrame(data(0, Buffer.alloc(2 ** 14, 'x')));
  head.writeUInt32LE(bomb.length, 13);
  await assert.rejects(readFrame(readerOf(Buffer.concat([head, bomb]))), e => isError(e, 'SV_MESSAGE'));
});

test('lengths beyond a block, unknown kinds and offsets beyond all sizes are refused before anything is read', async () => {
  const [head = Buffer.alloc(0)] = await encodeFrame(data(0, Buffer.alloc(10, 'x')));
  for (const change of [
    (h: Buffer) => h.writeUInt8(77, 0),
    (h: Buffer) => h.writeUInt32LE(BLOCK + 1, 9),
    (h: Buffer) => h.writeUInt32LE(0, 9),
    (h: Buffer) => h.writeUInt32LE(0xffff_ffff, 13),
    (h: Buffer) => h.writeBigUInt64LE(2n ** 60n, 1),
  ]) {
    const wrong = Buffer.from(head);
    change(wrong);
    await assert.rejects(readFrame(readerOf(wrong)), e => isError(e, 'SV_MESSAGE'));
  }
});

test('a header that says more, less or something else is refused by the name of the field', async () => {
  const wrong: readonly (readonly [change: object, field: string])[] = [
    [{ format: 2 }, 'format'],
    [{ attachment: '../../../../etc' }, 'attachment'],
    [{ target: 'mnt' }, 'target'],
    [{ instance: 'a\nb' }, 'instance'],
    [{ sizeBytes: 2 ** 50 }, 'sizeBytes'],
    [{ idBase: -1 }, 'idBase'],
    [{ template: { ...HEADER.template, name: '../x' } }, 'template.name'],
    [{ version: 'x' }, 'version'],
    [{ more: 1 }, ''],
  ];
  for (const [change, field] of wrong)
    await assert.rejects(
      readHead(readerOf(encodeHeader({ ...HEADER, ...change }))),
      e => isError(e, 'SV_MESSAGE') && e.message.includes(`"${field}"`),
      field,
    );
});

test('no bytes whatever do anything but be refused', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.boolean(), async (bytes, isFrame) => {
      const reader = readerOf(Buffer.from(bytes));
      const readAll = async () => {
        // Some frames need no more than their head: one after the other, to the end.
        for (;;) await (isFrame ? readFrame(reader) : readHead(reader));
      };
      await assert.rejects(readAll, e => isError(e, 'SV_MESSAGE', 'SV_CHECKSUM'));
    }),
  );
});

test('a volume that both hosts reach is told by its path, and nothing else is accepted as its source', async () => {
  const shared = {
    format: FORMAT,
    instance: 'c1',
    role: 'volume',
    target: '/mnt/data',
    readOnly: false,
    source: { kind: 'device', path: '/dev/vg/one' },
  } as const;
  assert.deepEqual(await readHead(readerOf(encodeShared(shared))), { kind: 'shared', shared });
  const other = encodeShared({ ...shared, source: { kind: 'device', path: 'relative' } });
  await assert.rejects(readHead(readerOf(other)), e => isError(e, 'SV_MESSAGE'));
});

test('the digest is the same whether a block came or was there, and another one for everything else', () => {
  const digest = (...frames: readonly Exclude<Frame, { kind: 'end' }>[]) => {
    const d = new Digest(HEADER);
    for (const frame of frames) d.update(frame);
    return d.end().toString('hex');
  };
  const bytes = Buffer.from('some bytes');
  const sha256 = sha256Of(bytes);
  const came = digest({ kind: 'data', offset: 5, bytes, sha256 });

  assert.equal(digest({ kind: 'kept', offset: 5, length: bytes.length, sha256 }), came);
  assert.notEqual(digest({ kind: 'kept', offset: 6, length: bytes.length, sha256 }), came);
  assert.notEqual(digest({ kind: 'zeros', offset: 5, length: bytes.length }), came);
  assert.notEqual(digest(), came);
});
