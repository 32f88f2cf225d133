import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { KeyedQueue } from '../../../src/engine/queue.ts';

test('work of one key runs in order and one at a time; never more than the limit at once', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 3 })), { maxLength: 40 }),
      fc.integer({ min: 1, max: 4 }),
      async (jobs, limit) => {
        const queue = new KeyedQueue(limit);
        const seen = new Map<number, number[]>();
        const active = new Set<number>();
        let most = 0;
        await Promise.all(
          jobs.map(([key, ms], i) =>
            queue.run(`${key}`, async () => {
              assert.ok(!active.has(key), 'one at a time');
              active.add(key);
              most = Math.max(most, active.size);
              await sleep(ms);
              active.delete(key);
              seen.set(key, [...(seen.get(key) ?? []), i]);
            }),
          ),
        );
        for (const order of seen.values())
          assert.deepEqual(
            order,
            order.toSorted((a, b) => a - b),
          );
        assert.ok(most <= limit);
        assert.equal(queue.size, 0);
      },
    ),
    { numRuns: 30 },
  );
});

test('work that fails lets the next one of its key go on', async () => {
  const queue = new KeyedQueue(1);
  const failed = queue.run('a', () => Promise.reject(new Error('no')));
  const next = queue.run('a', async () => 'yes');
  await assert.rejects(failed, /no/);
  assert.equal(await next, 'yes');
});
