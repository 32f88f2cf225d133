/** W3C Trace Context: where the caller of a request was in a trace of its own. @see https://www.w3.org/TR/trace-context/ */
import { type Context, createTraceState, isSpanContextValid, ROOT_CONTEXT, trace } from '@opentelemetry/api';

/** Callers write what they like: what is no traceparent begins a new trace. Later versions may have more behind it. */
const TRACEPARENT = /^(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const MOST_STATE = 512;

export function callerContext(traceparent: string | undefined, tracestate: string | undefined): Context {
  const [, version, traceId = '', spanId = '', flags = '', more] = TRACEPARENT.exec(traceparent ?? '') ?? [];
  const caller = {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16) & 1,
    isRemote: true,
    ...(tracestate !== undefined && tracestate.length <= MOST_STATE && { traceState: createTraceState(tracestate) }),
  };
  if (!isSpanContextValid(caller) || (version === '00' && more !== undefined)) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, caller);
}
