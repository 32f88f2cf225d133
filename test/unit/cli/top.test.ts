/** The last minute that `shiftvol top` has, and its picture. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TopFacts } from '../../../src/cli/top-facts.ts';
import { screen } from '../../../src/cli/top-screen.ts';
import { quantile, WINDOW_MS, Window } from '../../../src/cli/top-window.ts';
import type { Run } from '../../../src/engine/recent-runs.ts';

const run = (id: number, more: Partial<Run> = {}): Run => ({
  id,
  attachment: `a${id}`,
  instance: 'c1',
  action: 'attach',
  at: '2026-11-25T00:00:00.000Z',
  state: 'done',
  durationMs: 10,
  steps: [{ step: 'mount', startMs: 0, ms: id }],
  ...more,
});

test('the window has one minute and forgets what is older; what is told again is counted once', () => {
  const window = new Window();
  const first = Array.from({ length: 100 }, (_, i) => run(i + 1));

  assert.equal(window.add(first, 0).length, 100);
  assert.deepEqual(window.add([run(100)], 1000), [], 'ended before');
  const facts = window.facts(10_000);
  assert.deepEqual(facts.actions, [{ action: 'attach', perSecond: 10, failed: 0 }]);
  assert.deepEqual(facts.steps, [{ step: 'mount', count: 100, failed: 0, p50Ms: 50, p99Ms: 99, maxMs: 100 }]);

  window.add([], WINDOW_MS + 500);
  assert.equal(window.facts(WINDOW_MS + 500).steps[0]?.count, 1, 'the one that was told later');
});

test('what fails is counted as failed, what runs as running', () => {
  const window = new Window();
  window.add([run(1, { state: 'failed' }), run(2, { state: 'running' })], 0);

  assert.deepEqual(window.facts(0).actions, [{ action: 'attach', perSecond: 0, failed: 1 }]);
  assert.equal(window.facts(0).running, 1);
  assert.equal(window.add([run(2)], 10).length, 1, 'its end is told then');
});

test('a quantile is a value that was measured', () => {
  assert.deepEqual([quantile([], 0.5), quantile([3], 0.99), quantile([1, 2, 3, 4], 0.5)], [0, 3, 2]);
});

test('the picture fits in any terminal, and nothing that others wrote acts on it', () => {
  const window = new Window();
  const evil = run(1, {
    instance: 'c1\x1b[2J\n',
    state: 'failed',
    error: { code: 'SV_BUSY', message: '\x1b]0;x\x07' },
  });
  const ended = window.add([evil], 0);
  const facts: TopFacts = {
    at: '2026-11-25T00:00:00.000Z',
    host: 'node1',
    pid: 1,
    work: window.facts(0),
    states: { attaching: 0, attached: 3, detaching: 0, detached: 0, undoing: 0 },
    bus: null,
    ids: { size: 65536 * 10, used: 65536 },
    pool: { sizeBytes: 100, freeBytes: 5 },
    ended,
  };
  for (const [columns, rows] of [
    [1, 1],
    [20, 5],
    [80, 24],
    [200, 60],
  ] as const) {
    const lines = screen({ facts, last: ended, sort: 'time', columns, rows });
    assert.ok(lines.length <= rows && lines.every(line => line.length <= columns), `${columns} x ${rows}`);
    assert.ok(lines.every(line => !/\p{Cc}/u.test(line)));
  }
});
