import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { isNoise } from '../../../src/events/peek.ts';
import { isActing } from '../../../src/events/translate.ts';

const envelope = (inner: string) => Buffer.from(`{"oslo.version": "2.0", "oslo.message": ${JSON.stringify(inner)}}`);
const noise = (inner: string) => isNoise(envelope(inner), isActing);

test('every real notification is noise exactly if its event does not act', () => {
  const folder = new URL('../../fixtures/notifications/flows/', import.meta.url);
  const lines = readdirSync(folder).flatMap(file => readFileSync(new URL(file, folder), 'utf8').trimEnd().split('\n'));
  assert.ok(lines.length > 50);
  for (const line of lines) {
    const inner = line.slice(line.indexOf('"message": ') + '"message": '.length, -1);
    const { event_type: type } = JSON.parse(inner);
    assert.equal(noise(inner), !isActing(type), type);
    assert.equal(isNoise(Buffer.from(inner), isActing), !isActing(type), `${type} without an envelope`);
    assert.equal(noise(JSON.stringify(JSON.parse(inner))), !isActing(type), `${type} without blanks`);
  }
});

test('what acts is never noise, whatever stands around it', () => {
  const value = fc.oneof(
    fc.json(),
    fc.constantFrom('"event_type"', '{"event_type": "instance.update"}', '"\\"event_type\\": \\"x\\""'),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.string(), value)), fc.nat(), (around, at) => {
      const members = around.map(([key, text]) => `${JSON.stringify(key)}: ${text}`);
      members.splice(at % (members.length + 1), 0, '"event_type": "instance.delete.end"');
      assert.equal(noise(`{${members.join(', ')}}`), false);
    }),
  );
});

test('what cannot be told from its bytes is parsed', () => {
  for (const text of [
    '',
    '{}',
    'event_type',
    '{"event_type"',
    '{"event_type": ',
    '{"event_type": null}',
    '{"event_type": ["instance.update"]}',
    '{"event_type": "instance.\\u0064elete.end"}',
    '{"event_type":  "instance.update"}',
    '{"event_type": "instance.update", "payload": {"metadata": {"k": "event_type"}}}',
    `{"event_type": "${'x'.repeat(300)}"}`,
  ])
    assert.equal(noise(text), false, text);
});
