import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { LimitedLines } from '../../../src/log/limit.ts';

test('the first lines of a minute are written, the others counted, and the next minute begins anew', () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  const lines: [string, object][] = [];
  const say = (text: string, facts: object = {}) => void lines.push([text, facts]);
  const limited = new LimitedLines({ debug: say, info: say, warn: say, error: say }, 'warn', { most: 3, perMs: 1000 });

  for (let n = 1; n <= 10; n++) limited.say('dropped', { n });
  assert.deepEqual(
    lines,
    [1, 2, 3].map(n => ['dropped', { n }]),
  );
  mock.timers.tick(1000);
  assert.deepEqual(lines[3], ['more such lines were not written', { like: 'dropped', suppressed: 7 }]);
  limited.say('dropped', { n: 11 });
  assert.deepEqual(lines[4], ['dropped', { n: 11 }]);
  mock.timers.tick(1000);
  assert.equal(lines.length, 5, 'nothing was left out, and nothing is said');
  mock.timers.reset();
});
