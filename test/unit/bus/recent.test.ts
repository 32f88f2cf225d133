import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Recent } from '../../../src/bus/recent.ts';

test('the last `limit` keys are there with their last values, and never more than twice as many', () => {
  const step = fc.tuple(fc.constantFrom('set', 'set', 'set', 'delete'), fc.nat({ max: 30 }));
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.array(step, { maxLength: 200 }), (limit, steps) => {
      const recent = new Recent<number>(limit);
      const order: string[] = [];
      const values = new Map<string, number>();
      for (const [i, [how, n]] of steps.entries()) {
        const key = String(n);
        if (how === 'delete') {
          // Its place stays taken: a deletion brings nothing back that had left the window.
          recent.delete(key);
          values.delete(key);
        } else {
          if (order.includes(key)) order.splice(order.indexOf(key), 1);
          recent.set(key, i);
          values.set(key, i);
          order.push(key);
        }
        for (const last of order.slice(-limit)) assert.equal(recent.get(last), values.get(last));
        if (!values.has(key)) assert.equal(recent.get(key), undefined);
        const kept = Array.from({ length: 31 }, (_, k) => String(k)).filter(k => recent.get(k) !== undefined);
        assert.ok(kept.length <= 2 * limit);
      }
    }),
  );
});
