/** When a request is sent again, and after how long. */

export type RetryPolicy = {
  /** Times that a request is sent, at most. */
  readonly attempts: number;
  /** Before the second; doubled each time, with jitter. */
  readonly delayMs: number;
  readonly maxDelayMs: number;
  /** The longest that a service may tell us to wait with Retry-After. */
  readonly maxToldMs: number;
};
export const RETRY: RetryPolicy = { attempts: 5, delayMs: 500, maxDelayMs: 8000, maxToldMs: 60_000 };

/** Connections that came to nothing before a byte of the request was written. */
const NOTHING_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ENETDOWN']);
const BROKEN = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ECONNABORTED', 'ERR_STREAM_PREMATURE_CLOSE', 'UND_ERR']);
const EARLY_PHASES = new Set(['lookup', 'connect', 'secureConnect', 'socket-wait']);

/** What can be known of a failed exchange. `phase`: where got's timer ran out. */
export type Trouble = { readonly code: string; readonly phase?: string | undefined };

/** `repeatable`: doing it twice is doing it once. */
export function mayRetryTrouble({ code, phase }: Trouble, repeatable: boolean): boolean {
  if (NOTHING_SENT.has(code) || (phase !== undefined && EARLY_PHASES.has(phase))) return true;
  return repeatable && BROKEN.has(code);
}

/**
 * 429 and a 503 that says when to come back were not begun. Any other 503 (and a proxy's 502, 504) may come from a service that died in
 * the middle of it.
 */
export function mayRetryStatus(status: number, told: number | undefined, repeatable: boolean): boolean {
  if (status === 429 || (status === 503 && told !== undefined)) return true;
  return repeatable && (status === 502 || status === 503 || status === 504);
}

/** Milliseconds that Retry-After asks for: seconds, or a date. Undefined: it does not. */
export function toldDelay(header: string | undefined, now: number): number | undefined {
  if (header === undefined || header === '') return undefined;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}

/** Half of it is chance, so that a thousand hosts do not come back together. `attempt` is 1 after the first. */
export function delayAfter(attempt: number, policy: RetryPolicy, random: () => number = Math.random): number {
  const full = Math.min(policy.maxDelayMs, policy.delayMs * 2 ** (attempt - 1));
  return full / 2 + (full / 2) * random();
}
