/**
 * oslo.messaging's envelope: `{"oslo.version": "2.0", "oslo.message": "<JSON>"}` in a JSON body. Reads what any version of it sends
 * and refuses the rest with a reason that shows nothing of the contents. Pure.
 */
import { unzipSync } from 'node:zlib';

export type RawMessage = {
  readonly content: Uint8Array;
  readonly properties: {
    readonly contentType?: unknown;
    readonly headers?: Readonly<Record<string, unknown>> | undefined;
  };
};
export type Decoded = { readonly ok: true; readonly inner: object } | { readonly ok: false; readonly reason: string };

const VERSION = 'oslo.version';
const MESSAGE = 'oslo.message';
const UTF_8 = new TextDecoder('utf-8', { fatal: true });

/** The inner message. `maxBytes` bounds the body as it is, and once more what it inflates to. Never throws. */
export function decode(message: RawMessage, maxBytes: number): Decoded {
  const { contentType, headers } = message.properties;
  if (typeof contentType === 'string' && contentType !== 'application/json')
    return refuse(`content type ${quote(contentType)}, application/json is accepted`);
  if (message.content.length > maxBytes)
    return refuse(`${message.content.length} bytes, at most ${maxBytes} are accepted`);
  const body = inflate(message.content, headers?.['compression'], maxBytes);
  if (typeof body === 'string') return refuse(body);
  const outer = parseObject(body, 'the body');
  if (!outer.ok) return outer;
  const envelope = new Map(Object.entries(outer.inner));
  // One of the two missing: format 1.0, the body is the message (driver "messaging").
  if (!envelope.has(VERSION) || !envelope.has(MESSAGE)) return outer;
  const version = envelope.get(VERSION);
  if (version !== '2.0') return refuse(`${VERSION} ${quote(version)}, 2.0 is accepted`);
  const text = envelope.get(MESSAGE);
  if (typeof text !== 'string') return refuse(`${MESSAGE} is no text`);
  return parseObject(text, MESSAGE);
}

/** A body that Python reads, with the properties that it needs: without content type and encoding it drops the message silently. */
export function encode(inner: object): { content: Buffer; contentType: string; contentEncoding: string } {
  return {
    content: Buffer.from(JSON.stringify({ [VERSION]: '2.0', [MESSAGE]: JSON.stringify(inner) })),
    contentType: 'application/json',
    contentEncoding: 'utf-8',
  };
}

/** kombu writes zlib and says gzip (`application/x-gzip`); `unzip` takes either. A text is the reason why not. */
function inflate(content: Uint8Array, compression: unknown, maxBytes: number): Uint8Array | string {
  if (compression === undefined || compression === null || compression === '') return content;
  if (compression !== 'application/x-gzip' && compression !== 'gzip')
    return `compression ${quote(compression)}, none or application/x-gzip is accepted`;
  try {
    return unzipSync(content, { maxOutputLength: maxBytes });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ERR_BUFFER_TOO_LARGE') return `inflates to more than ${maxBytes} bytes`;
    if (typeof code === 'string' && code.startsWith('Z_')) return `does not inflate (${code})`;
    throw error;
  }
}

/** JSON.parse makes `__proto__` an own property, and does not recurse; NaN and Infinity, which Python writes, are no JSON. */
function parseObject(source: Uint8Array | string, what: string): Decoded {
  let value: unknown;
  try {
    value = JSON.parse(typeof source === 'string' ? source : UTF_8.decode(source));
  } catch (error) {
    if (error instanceof SyntaxError) return refuse(`${what} is not JSON`);
    if (error instanceof TypeError) return refuse(`${what} is not UTF-8`);
    throw error;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse(`${what} is no JSON object`);
  return { ok: true, inner: value };
}

const refuse = (reason: string): Decoded => ({ ok: false, reason });
const quote = (value: unknown) => (typeof value === 'string' ? JSON.stringify(value.slice(0, 40)) : typeof value);
