import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isError } from '../../../src/errors.ts';
import { layout, snapshotParts, templateName } from '../../../src/storage/layout.ts';
import { parseSize } from '../../../src/storage/size.ts';

describe('names in a pool', () => {
  it('never lead out of it', () => {
    const at = layout('/pool');
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-z./]{0,20}$/)), name => {
        try {
          assert.match(at.snapshot(name), /^\/pool\/snapshots\/[a-z0-9_-][a-z0-9._-]*\/[a-z0-9_-][a-z0-9._-]*$/);
        } catch (error) {
          assert.ok(isError(error, 'SV_USAGE'));
        }
        try {
          assert.match(at.image(name), /^\/pool\/templates\/[a-z0-9_-][a-z0-9._-]*\/image$/);
        } catch (error) {
          assert.ok(isError(error, 'SV_USAGE'));
        }
      }),
    );
  });

  it('may be uuids, names with dots, and 64 characters long', () => {
    for (const name of ['9f2c6e1a-8b1d-4c53-9c1e-0a1b2c3d4e5f', 'ubuntu-24.04', 'a'.repeat(64)])
      assert.equal(templateName(name), name);
    assert.deepEqual(snapshotParts('web/0123456789abcdef'), ['web', '0123456789abcdef']);
  });
});

describe('a size', () => {
  it('is read with or without a unit', () => {
    const sizes = {
      '20G': 20 * 2 ** 30,
      '1.5T': 1.5 * 2 ** 40,
      '512MiB': 2 ** 29,
      '4096': 4096,
      '1k': 1024,
      '2 GB': 2 ** 31,
    };
    for (const [text, bytes] of Object.entries(sizes)) assert.equal(parseSize(text, 'size'), bytes, text);
  });

  it('that is none is refused', () => {
    for (const text of ['', '0', '-1', 'G', '1X', '1e9', '1GG', '99999999P', 'NaN', '0x10', '1,5G'])
      assert.throws(
        () => parseSize(text, 'size'),
        e => isError(e, 'SV_USAGE') && e.field === 'size',
        text,
      );
  });
});
