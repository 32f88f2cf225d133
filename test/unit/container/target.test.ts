import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { requireTarget } from '../../../src/engine/target.ts';
import { ShiftvolError } from '../../../src/errors.ts';

const refusal = (what: RegExp) => (error: unknown) =>
  error instanceof ShiftvolError &&
  error.code === 'SV_TARGET_INVALID' &&
  error.field === 'target' &&
  what.test(error.message);

test('a target comes back as it was given', () => {
  for (const target of [
    '/mnt/data',
    '/a',
    '/srv/über daten',
    '/devices',
    '/procfs/x',
    '/mnt/...',
    '/mnt/.hidden',
    '/mnt/a..b',
  ])
    assert.equal(requireTarget(target), target);
});

const BAD: readonly (readonly [string, RegExp])[] = [
  ['', /empty/],
  ['mnt/data', /not absolute/],
  ['./x', /not absolute/],
  ['/', /root file system itself/],
  ['//', /ends with a slash/],
  ['//mnt', /"\/\/"/],
  ['/mnt//data', /"\/\/"/],
  ['/mnt/', /ends with a slash/],
  ['/mnt/../etc', /"\.\."/],
  ['/..', /"\.\."/],
  ['/mnt/.', /"\."/],
  ['/mnt/a\0b', /control character/],
  ['/mnt/a\nb', /control character/],
  ['/mnt/a\u007f', /control character/],
  ['/mnt/\ud800', /not Unicode/],
  ['/proc', /belongs to the runtime/],
  ['/proc/1/root', /belongs to the runtime/],
  ['/sys/fs', /belongs to the runtime/],
  ['/dev/shm', /belongs to the runtime/],
  [`/${'x'.repeat(256)}`, /256 bytes, 255 bytes are accepted/],
  [`/${'ü'.repeat(128)}`, /256 bytes/],
  ['/x'.repeat(2048), /4096 bytes, 4095 bytes are accepted/],
];

test('a target that is not absolute, not normal or not ours to use is refused with what is accepted', () => {
  for (const [target, what] of BAD) assert.throws(() => requireTarget(target), refusal(what), JSON.stringify(target));
});

test('whatever is accepted is its own normal form', () => {
  const path = fc.array(fc.oneof(fc.constantFrom('', '.', '..', 'a', 'proc', 'dev'), fc.string()), { maxLength: 5 });
  fc.assert(
    fc.property(path, names => {
      const text = `/${names.join('/')}`;
      try {
        requireTarget(text);
      } catch (error) {
        return error instanceof ShiftvolError && error.code === 'SV_TARGET_INVALID';
      }
      return (
        new URL(`file://${text.split('/').map(encodeURIComponent).join('/')}`).pathname
          .split('/')
          .map(decodeURIComponent)
          .join('/') === text && !text.includes('\0')
      );
    }),
  );
});
