import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace';
import { SpanQueue } from '../../../src/trace/queue.ts';

const SPAN = {} as ReadableSpan; // what is in it nobody looks at here

function queueWith(answer: (done: Parameters<SpanExporter['export']>[1]) => void) {
  const lines: { text: string; facts: Readonly<Record<string, unknown>> }[] = [];
  const batches: number[] = [];
  const log = {
    debug() {},
    info() {},
    error() {},
    warn: (text: string, facts = {}) => void lines.push({ text, facts }),
  };
  const exporter: SpanExporter = {
    export: (spans, done) => {
      batches.push(spans.length);
      answer(done);
    },
    shutdown: async () => {},
  };
  return { queue: new SpanQueue(exporter, 'http://c/v1/traces', log), lines, batches };
}

test('spans are sent together, a moment later, and no batch is larger than what is put into JSON at once', async () => {
  const { queue, batches, lines } = queueWith(done => done({ code: 0 }));

  for (let i = 0; i < 300; i++) queue.onEnd(SPAN);
  assert.deepEqual(batches, [], 'nobody waits for it');
  await queue.forceFlush();

  assert.deepEqual(batches, [128, 128, 44]);
  assert.deepEqual([queue.counters, lines], [{ sent: 300, dropped: 0 }, []]);
});

test('while a collector hangs no more waits than there is room for; the rest is counted, in one line a minute', async () => {
  const { queue, lines, batches } = queueWith(() => {});

  for (let i = 0; i < 128; i++) queue.onEnd(SPAN);
  void queue.forceFlush();
  for (let i = 0; i < 5000; i++) queue.onEnd(SPAN);

  assert.deepEqual([batches, queue.waiting], [[128], 2048]);
  assert.deepEqual(queue.counters, { sent: 0, dropped: 5000 - 2048 });
  assert.equal(lines.length, 1);
  const began = performance.now();
  await queue.end(50);
  assert.ok(performance.now() - began < 2000, 'the end is not kept waiting');
  assert.equal(queue.counters.dropped, 5128, 'those under way, too');
  assert.equal(lines.length, 2);
  assert.deepEqual(lines[1]?.facts['reason'], 'the agent ended');
});

test('a collector that refuses is named by its status, never by what it said; one that throws is survived', async () => {
  const refuse = queueWith(done =>
    done({ code: 1, error: Object.assign(new Error('token abc is wrong'), { code: 401 }) }),
  );
  refuse.queue.onEnd(SPAN);
  await refuse.queue.forceFlush();
  assert.deepEqual(refuse.lines[0]?.facts, {
    dropped: 1,
    reason: 'HTTP status 401',
    collector: 'http://c/v1/traces',
  });

  const fault = queueWith(() => {
    throw new TypeError('Invalid character in header content');
  });
  fault.queue.onEnd(SPAN);
  await fault.queue.forceFlush();
  assert.deepEqual(fault.queue.counters, { sent: 0, dropped: 1 });
});
