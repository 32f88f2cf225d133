import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conversation } from '../../demo/acts.ts';
import { barLines, columns, duration, makeShow, times } from '../../demo/show.ts';
import type { Heard } from '../../rig/oslo/peers.ts';

test('durations are as long as they have to be', () => {
  const told = [0.4211, 12.34, 99.96, 450.4, 2310, 64_200].map(duration);

  assert.deepEqual(told, ['0.42 ms', '12.3 ms', '100 ms', '450 ms', '2.31 s', '1 min 04 s']);
});

test('factors lose their fraction when it says nothing', () => {
  assert.deepEqual([8.44, 31.2, 1234.5].map(times), ['8.4 times', '31 times', '1235 times']);
});

test('the longest bar has forty characters, the shortest is seen', () => {
  const [short, long] = barLines([
    { name: 'a', ms: 1 },
    { name: 'longer', ms: 1000 },
  ]);

  assert.equal(short, 'a       ▏ 1.0 ms');
  assert.equal(long, `longer  ${'█'.repeat(40)} 1.00 s`);
});

test('names stand in a column, lines as they are', () => {
  assert.deepEqual(
    columns([
      ['a', '1'],
      ['longer', '2'],
    ]),
    ['a       1', 'longer  2'],
  );
  assert.deepEqual(columns(['x', '  y']), ['x', '  y']);
});

test('acts are numbered in both forms', () => {
  const lines: string[] = [];
  const json = makeShow({ json: true }, line => lines.push(line));
  json.act('one');
  json.done('x', 1.26);
  json.act('two');

  assert.deepEqual(
    lines.map(line => JSON.parse(line)),
    [
      { event: 'act', act: 1, text: 'one' },
      { event: 'done', act: 1, text: 'x', ms: 1.3 },
      { event: 'act', act: 2, text: 'two' },
    ],
  );
});

test('a conversation begins with the message that began it', () => {
  const heard = (event_type: string, timestamp: string, payload: object = {}): Heard => ({
    priority: 'info',
    event_type,
    publisher_id: 'p',
    payload: { ...payload },
    metadata: { message_id: 'm', timestamp },
    context: {},
  });

  const rows = conversation(
    [
      heard('instance.update', '2026-11-24 18:00:00.000000'),
      heard('asked', '2026-11-24 18:00:01.000000'),
      heard('answered', '2026-11-24 18:00:01.042000', { target: '/mnt', template: null }),
    ],
    'asked',
  );

  assert.deepEqual(rows, [
    ['+  0 ms  asked', 'by p'],
    ['+ 42 ms  answered', 'by p  target=/mnt'],
  ]);
});
