/** What all notifications of oslo.messaging have in common, and where they say who, where and on whose behalf. Pure. */
import * as z from 'zod';

/** A host as services name it: no control characters, since it ends up in logs. */
const name = z.string().check(z.maxLength(255), z.regex(/^[^\p{Cc}]*$/u));

const notification = z.object({
  event_type: name,
  publisher_id: name,
  payload: z.unknown(),
  message_id: z.optional(z.nullable(z.unknown())),
  timestamp: z.optional(z.nullable(z.unknown())),
  _unique_id: z.optional(z.nullable(z.unknown())),
  _context_request_id: z.optional(z.nullable(z.unknown())),
  _context_global_request_id: z.optional(z.nullable(z.unknown())),
});
export type Notification = z.infer<typeof notification>;

export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: string };

export function parseNotification(inner: unknown): Parsed<Notification> {
  return parse(notification, inner);
}

/** Checks a value; the reason names fields and types, never values: payloads carry tokens and passwords. */
export function parse<T>(schema: z.ZodType<T>, value: unknown, at = ''): Parsed<T> {
  const result = schema.safeParse(value);
  if (result.success) return { ok: true, value: result.data };
  const issues = result.error.issues.slice(0, 3).map(issue => {
    const path = [at, ...issue.path.map(String)].filter(p => p !== '').join('.');
    return `${path === '' ? 'message' : path}: ${issue.message}`;
  });
  return { ok: false, reason: issues.join('; ').slice(0, 500) };
}

/**
 * The host in `nova-compute:HOST` (versioned) or `compute.HOST` (legacy), and the service before it. A host name may have both
 * separators in it, so the first one counts.
 */
export function publisher(id: string, separator: ':' | '.'): { service: string; host: string | undefined } {
  const i = id.indexOf(separator);
  return i < 0 ? { service: id, host: undefined } : { service: id.slice(0, i), host: id.slice(i + 1) || undefined };
}

/** The first that is a usable id: request ids come from callers, so they may be anything. */
export function firstId(...candidates: readonly unknown[]): string | undefined {
  return candidates.find((c): c is string => typeof c === 'string' && /^[\w.:@-]{1,128}$/.test(c));
}

/** When it was sent, in ISO 8601; oslo writes UTC without saying so. Undefined where it does not say. */
export function sentAt({ timestamp }: Pick<Notification, 'timestamp'>): string | undefined {
  if (typeof timestamp !== 'string') return undefined;
  const [, day, time] = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d{1,6})?)Z?$/.exec(timestamp) ?? [];
  const at = new Date(`${day}T${time}Z`);
  return Number.isNaN(at.getTime()) ? undefined : at.toISOString();
}

/** What identifies a notification over redeliveries and topics: `message_id`; `_unique_id` is new for each topic that it is sent to. */
export function uniqueId(inner: unknown): string | undefined {
  if (typeof inner !== 'object' || inner === null) return undefined;
  return firstId(
    'message_id' in inner ? inner.message_id : undefined,
    '_unique_id' in inner ? inner._unique_id : undefined,
  );
}
