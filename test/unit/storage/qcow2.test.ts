import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isError } from '../../../src/errors.ts';
import { checkQcow2, isQcow2, QCOW2_HEAD_BYTES } from '../../../src/storage/import/qcow2.ts';

/** A header as qemu-img writes it for 1 GiB, with these fields set. */
function header(set: (head: Buffer) => void = () => {}): Buffer {
  const head = Buffer.alloc(QCOW2_HEAD_BYTES);
  head.writeUInt32BE(0x514649fb, 0);
  head.writeUInt32BE(3, 4);
  head.writeUInt32BE(16, 20);
  head.writeBigUInt64BE(2n ** 30n, 24);
  head.writeUInt32BE(2, 36);
  head.writeUInt32BE(104, 100);
  set(head);
  return head;
}

describe('a qcow2 header', () => {
  it('tells the virtual size', () => {
    assert.deepEqual(checkQcow2(header()), { virtualBytes: 2 ** 30 });
    assert.deepEqual(checkQcow2(header(h => h.writeUInt32BE(2, 4))), { virtualBytes: 2 ** 30 });
  });

  const bad: readonly (readonly [string, RegExp, (head: Buffer) => unknown])[] = [
    ['version 1', /version/, h => h.writeUInt32BE(1, 4)],
    ['a backing file', /backing file/, h => h.writeBigUInt64BE(512n, 8)],
    ['a backing file by its length alone', /backing file/, h => h.writeUInt32BE(5, 16)],
    ['AES', /encrypted/, h => h.writeUInt32BE(1, 32)],
    ['LUKS', /encrypted/, h => h.writeUInt32BE(2, 32)],
    ['tiny clusters', /clusters/, h => h.writeUInt32BE(8, 20)],
    ['huge clusters', /clusters/, h => h.writeUInt32BE(40, 20)],
    ['no size', /size/, h => h.writeBigUInt64BE(0n, 24)],
    ['a size of exabytes', /size/, h => h.writeBigUInt64BE(2n ** 62n, 24)],
    ['a table too small for its size', /table/, h => h.writeUInt32BE(1, 36)],
    ['a table of gigabytes', /table/, h => h.writeUInt32BE(2 ** 31, 36)],
    ['the corrupt mark', /corrupt/, h => h.writeBigUInt64BE(2n, 72)],
    ['an external data file', /another file/, h => h.writeBigUInt64BE(4n, 72)],
    ['an unknown feature', /unknown/, h => h.writeBigUInt64BE(2n ** 40n, 72)],
    ['the name of an external data file', /another file/, h => extension(h, 0x44415441)],
    ['an encryption header', /encrypted/, h => extension(h, 0x0537be77)],
    ['a backing format', /backing/, h => extension(h, 0xe2792aca)],
    ['a header length of zero', /header/, h => h.writeUInt32BE(0, 100)],
    ['extensions without an end', /do not end/, h => extension(h, 0x12345678, 0xffff_fff0)],
  ];
  for (const [what, text, set] of bad)
    it(`with ${what} is refused`, () => {
      assert.throws(
        () => checkQcow2(header(h => void set(h))),
        e => isError(e, 'SV_IMAGE_REFUSED') && text.test(e.message),
      );
    });

  it('of any bytes at all is read, or refused as an image', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
        const head = Buffer.from(bytes);
        if (head.length >= 4) head.writeUInt32BE(0x514649fb, 0);
        try {
          assert.ok(checkQcow2(head).virtualBytes > 0);
        } catch (error) {
          assert.ok(isError(error, 'SV_IMAGE_REFUSED'), String(error));
        }
      }),
    );
    assert.equal(isQcow2(Buffer.alloc(3)), false);
  });
});

function extension(head: Buffer, type: number, length = 8): void {
  head.writeUInt32BE(type, 104);
  head.writeUInt32BE(length, 108);
}
