import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deflateSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { decode, encode } from '../../../src/bus/envelope.ts';

const MAX = 2 ** 20;
const json = { contentType: 'application/json' };
const read = (content: string | Uint8Array, properties: object = json) =>
  decode({ content: typeof content === 'string' ? Buffer.from(content) : content, properties }, MAX);
const wrapped = (message: unknown, version: unknown = '2.0') =>
  JSON.stringify({ 'oslo.version': version, 'oslo.message': message });

test('what encode writes, decode reads, whatever is in it', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), inner => {
      const { content, ...properties } = encode(inner);

      const decoded = decode({ content, properties }, 2 ** 24);

      assert.ok(decoded.ok);
      assert.equal(JSON.stringify(decoded.inner), JSON.stringify(inner));
    }),
  );
});

test('without both keys of the envelope the body is the message (format 1.0)', () => {
  for (const body of ['{"event_type":"a"}', '{"event_type":"a","oslo.version":"2.0"}', '{"oslo.message":"{}"}']) {
    const decoded = read(body);

    assert.ok(decoded.ok);
    assert.deepEqual(decoded.inner, JSON.parse(body));
  }
});

test('zlib and gzip bodies are inflated, whichever kombu’s header calls gzip', () => {
  for (const pack of [deflateSync, gzipSync]) {
    const decoded = read(pack(wrapped('{"a":1}')), { ...json, headers: { compression: 'application/x-gzip' } });

    assert.deepEqual(decoded, { ok: true, inner: { a: 1 } });
  }
});

test('a key "__proto__" stays a key', () => {
  const decoded = read(wrapped('{"__proto__":{"polluted":true}}'));

  assert.ok(decoded.ok);
  assert.equal(Object.getPrototypeOf(decoded.inner), Object.prototype);
  assert.equal(Reflect.get({}, 'polluted'), undefined);
});

const refused: readonly [string, string | Uint8Array, object | undefined, string][] = [
  ['nothing', '', undefined, 'the body is not JSON'],
  ['junk', 'x'.repeat(1000), undefined, 'the body is not JSON'],
  ['1 MiB of junk', Buffer.alloc(MAX, 7), undefined, 'the body is not JSON'],
  ['too much', Buffer.alloc(MAX + 1, 32), undefined, '1048577 bytes, at most 1048576 are accepted'],
  ['a deep nest', '['.repeat(MAX), undefined, 'the body is not JSON'],
  ['not UTF-8', Buffer.from([0x7b, 0xff, 0x7d]), undefined, 'the body is not UTF-8'],
  ['NaN', wrapped('{"a":NaN}'), undefined, 'oslo.message is not JSON'],
  ['a list', '[]', undefined, 'the body is no JSON object'],
  ['null', 'null', undefined, 'the body is no JSON object'],
  ['version 2.1', wrapped('{}', '2.1'), undefined, 'oslo.version "2.1", 2.0 is accepted'],
  ['version 3.0', wrapped('{}', '3.0'), undefined, 'oslo.version "3.0", 2.0 is accepted'],
  ['version as a number', wrapped('{}', 2), undefined, 'oslo.version number, 2.0 is accepted'],
  ['a message that is no text', wrapped({ a: 1 }), undefined, 'oslo.message is no text'],
  ['a message that is no JSON', wrapped('{'), undefined, 'oslo.message is not JSON'],
  ['a message that is a list', wrapped('[]'), undefined, 'oslo.message is no JSON object'],
  [
    'another content type',
    '{}',
    { contentType: 'application/x-python-serialize' },
    'content type "application/x-python-serialize"',
  ],
  ['bzip2', '{}', { ...json, headers: { compression: 'application/x-bz2' } }, 'compression "application/x-bz2"'],
  ['a compression that is no text', '{}', { ...json, headers: { compression: 7 } }, 'compression number'],
  ['what does not inflate', '{}', { ...json, headers: { compression: 'application/x-gzip' } }, 'does not inflate (Z_'],
  [
    'a bomb',
    deflateSync(Buffer.alloc(64 * MAX)),
    { ...json, headers: { compression: 'application/x-gzip' } },
    'inflates to more than 1048576 bytes',
  ],
];
for (const [what, content, properties, reason] of refused) {
  test(`refuses ${what}`, () => {
    const decoded = read(content, properties);

    assert.ok(!decoded.ok && decoded.reason.startsWith(reason), JSON.stringify(decoded).slice(0, 200));
  });
}

test('a deep nest that is JSON is read without a stack overflow', () => {
  assert.ok(read(`{"a":${'['.repeat(1e5)}${']'.repeat(1e5)}}`).ok);
});

test('never throws', () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.anything(), fc.anything(), (content, contentType, compression) => {
      decode({ content, properties: { contentType, headers: { compression } } }, MAX);
    }),
  );
});
