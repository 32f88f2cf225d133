import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROOT_CONTEXT, trace } from '@opentelemetry/api';
import { callerContext } from '../../../src/trace/traceparent.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';

test('a caller’s place in its trace is read, also of a later version', () => {
  for (const [text, flags] of [
    [`00-${TRACE}-${SPAN}-01`, 1],
    [`00-${TRACE}-${SPAN}-00`, 0],
    [`cc-${TRACE}-${SPAN}-03-more`, 1],
  ] as const) {
    const caller = trace.getSpanContext(callerContext(text, 'vendor=x'));
    assert.deepEqual(
      [caller?.traceId, caller?.spanId, caller?.traceFlags, caller?.isRemote],
      [TRACE, SPAN, flags, true],
    );
    assert.equal(caller?.traceState?.serialize(), 'vendor=x');
  }
});

test('what is no traceparent begins a trace of its own', () => {
  for (const text of [
    undefined,
    '',
    'x',
    `00-${TRACE}-${SPAN}`,
    `00-${TRACE}-${SPAN}-01-more`,
    `ff-${TRACE}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01\n`,
  ])
    assert.equal(callerContext(text, undefined), ROOT_CONTEXT, String(text));
});
