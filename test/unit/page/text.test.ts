import assert from 'node:assert/strict';
import { test } from 'node:test';

// Of a script of the page: it has no types.
const { visible, duration, age, range, sortKey } = await import(
  String(new URL('../../../src/page/assets/text.js', import.meta.url))
);

test('what cannot be seen, or turns the direction of what follows, is written out', () => {
  assert.equal(visible('safe\u202Egpj.exe'), 'safe‹U+202E›gpj.exe');
  assert.equal(visible('a\u200Bb\u0000c\n\u2066d\u{E0041}'), 'a‹U+200B›b‹U+0000›c‹U+000A›‹U+2066›d‹U+E0041›');
  assert.equal(visible('Grüße, שלום, 你好 <b>&amp;'), 'Grüße, שלום, 你好 <b>&amp;');
});

test('a text of any length is short', () => {
  assert.equal(visible('x'.repeat(2 ** 20)).length, 200);
  assert.equal(visible('\u202E'.repeat(2 ** 20), 10).length, 73);
});

test('durations, ages and ranges read as people say them', () => {
  assert.deepEqual([0.35, 3.1, 577, 16_020].map(duration), ['0.35 ms', '3.1 ms', '577 ms', '16.0 s']);
  const now = Date.parse('2026-01-02T00:00:00Z');
  assert.deepEqual(
    ['2026-01-02T00:00:03Z', '2026-01-01T23:59:30Z', '2026-01-01T23:00:00Z', '2025-12-30T00:00:00Z', 'junk'].map(at =>
      age(at, now),
    ),
    ['0 s', '30 s', '1 h', '3 d', ''],
  );
  assert.equal(range({ start: 1000, count: 1 }), '1000');
  assert.equal(range({ start: 1_000_000, count: 65_536 }), '1000000–1065535');
});

test('names with numbers are sorted by their value', () => {
  const names = ['web-10', 'Web-2', 'web-1'];
  assert.deepEqual(
    names.toSorted((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1)),
    ['web-1', 'Web-2', 'web-10'],
  );
});
