/** A call or a cast as it came: what is needed of it, checked. Pure. */
import * as z from 'zod';
import { firstId, type Parsed, parse } from '../../events/notification.ts';
import type { RpcArgs, RpcCall } from './endpoint.ts';

/** AMQP's short strings are up to 255 bytes; method names and namespaces are Python's. */
const text = z.string().check(z.minLength(1), z.maxLength(200), z.regex(/^[^\p{Cc}]*$/u));
const absent = <T>(schema: z.ZodType<T>) => z.optional(z.nullable(schema));

const message = z.object({
  method: text,
  args: absent(z.record(z.string(), z.unknown())),
  namespace: absent(text),
  version: absent(text),
  _msg_id: absent(text),
  // We publish to the queue that it names, so it must not be any queue: `reply_<hex>`, newer `reply_<host>:<process>:<n>`.
  _reply_q: absent(text.check(z.startsWith('reply_'))),
  _timeout: z.optional(z.unknown()),
  _unique_id: z.optional(z.unknown()),
  _context_request_id: z.optional(z.unknown()),
  _context_global_request_id: z.optional(z.unknown()),
  _context_user_id: z.optional(z.unknown()),
  _context_project_id: z.optional(z.unknown()),
  _context_trace_info: z.optional(z.unknown()),
});

export type RpcRequest = {
  readonly method: string;
  readonly args: RpcArgs;
  readonly namespace?: string;
  readonly version: string;
  /** Absent for a cast. */
  readonly reply?: { readonly queue: string; readonly messageId: string };
  /** The caller gives up when it hears nothing for so many seconds; absent where it just waits for the end. */
  readonly monitorS?: number;
  /** The same for a message that is sent or delivered again. */
  readonly uniqueId?: string;
  /** Of a caller that osprofiler traces: where it was, as a W3C traceparent. */
  readonly traced?: string;
  readonly context: Omit<RpcCall, 'method' | 'signal'>;
};

export function parseRequest(inner: unknown): Parsed<RpcRequest> {
  const parsed = parse(message, inner);
  if (!parsed.ok) return parsed;
  const m = parsed.value;
  const [messageId, queue] = [m._msg_id ?? undefined, m._reply_q ?? undefined];
  if (messageId !== undefined && queue === undefined) return { ok: false, reason: '_reply_q: nothing, for a call' };
  const monitorS = monitorOf(m._timeout);
  const uniqueId = firstId(m._unique_id);
  const traced = tracedBy(m._context_trace_info);
  return {
    ok: true,
    value: {
      method: m.method,
      args: m.args ?? {},
      ...(m.namespace ? { namespace: m.namespace } : {}),
      version: m.version ?? '1.0',
      ...(messageId === undefined || queue === undefined ? {} : { reply: { queue, messageId } }),
      ...(monitorS === undefined ? {} : { monitorS }),
      ...(uniqueId === undefined ? {} : { uniqueId }),
      ...(traced === undefined ? {} : { traced }),
      context: contextOf(m),
    },
  };
}

/** Below 2 s Python's server sends nothing either: it would be more often than once a second. */
function monitorOf(timeout: unknown): number | undefined {
  if (typeof timeout !== 'number' || !(timeout >= 2)) return undefined;
  return Math.min(Math.trunc(timeout), 86_400);
}

const uuid = z.string().check(z.regex(/^[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$/));
const traceInfo = z.object({ base_id: uuid, parent_id: uuid });

/** The ids that osprofiler's own OTLP driver makes of its uuids: all of a trace's, the last 64 bits of a span's. Its key stays unread. */
function tracedBy(info: unknown): string | undefined {
  const parsed = info === undefined ? undefined : traceInfo.safeParse(info);
  if (!parsed?.success) return undefined;
  const [trace, span] = [parsed.data.base_id, parsed.data.parent_id].map(id => id.replaceAll('-', ''));
  return `00-${trace}-${span?.slice(16)}-01`;
}

function contextOf(m: z.infer<typeof message>): RpcRequest['context'] {
  const [requestId, globalRequestId] = [firstId(m._context_request_id), firstId(m._context_global_request_id)];
  const [userId, projectId] = [firstId(m._context_user_id), firstId(m._context_project_id)];
  return {
    ...(requestId === undefined ? {} : { requestId }),
    ...(globalRequestId === undefined ? {} : { globalRequestId }),
    ...(userId === undefined ? {} : { userId }),
    ...(projectId === undefined ? {} : { projectId }),
  };
}
