/** One dead letter: what it is of, and why it is here. */
import { createHash } from 'node:crypto';
import { unzipSync } from 'node:zlib';
import type { GetMessage } from 'amqplib';
import type { BusConfig } from '../config/schema.ts';
import { isPrintable } from '../config/shape.ts';
import { textHeaders } from './channel.ts';
import { decode } from './envelope.ts';
import { HEADER } from './outlet.ts';

/** Without what the message says: that has passwords in it (admin_pass, connection_info). Ids and names alone. */
export type DeadLetter = {
  /** Of the bytes and the time: the same as long as it lies there. */
  readonly id: string;
  readonly at: string | null;
  /** Ours, or the broker's: `maxlen`, `expired`, `rejected`, `delivery_limit`. */
  readonly reason: string;
  readonly code: string | null;
  readonly host: string | null;
  /** Where it came from, and where a replay puts it. */
  readonly queue: string | null;
  readonly exchange: string;
  readonly key: string;
  readonly event: string | null;
  readonly messageId: string | null;
  readonly ids: Readonly<Record<string, string>>;
  readonly bytes: number;
  readonly broker: string;
};

export function describe(message: GetMessage, config: BusConfig, broker: string): DeadLetter {
  const headers = shown(message);
  const decoded = decode(message, config.maxMessage);
  const inner = new Map(Object.entries(decoded.ok ? decoded.inner : {}));
  return {
    id: idOf(message),
    at: headers[HEADER.at] ?? null,
    reason: headers[HEADER.reason] ?? headers['x-first-death-reason'] ?? 'unknown',
    code: headers[HEADER.code] ?? null,
    host: headers[HEADER.host] ?? null,
    queue: queueOf(message) ?? null,
    exchange: headers[HEADER.exchange] ?? headers['x-first-death-exchange'] ?? message.fields.exchange,
    key: headers[HEADER.key] ?? message.fields.routingKey,
    event: name(inner.get('event_type')) ?? null,
    messageId: name(inner.get('message_id')) ?? null,
    ids: idsIn(inner.get('payload')),
    bytes: message.content.length,
    broker,
  };
}

/** What is shown of a payload: these alone, wherever Nova's and Cinder's notifications have them. */
const SHOWN = new Set([
  'uuid',
  'instance_id',
  'instance_uuid',
  'volume_id',
  'image_uuid',
  'host',
  'state',
  'display_name',
]);

function idsIn(payload: unknown): Readonly<Record<string, string>> {
  const levels = [payload, get(payload, 'nova_object.data')];
  return Object.fromEntries(
    levels.flatMap(level =>
      Object.entries(isObject(level) ? level : {}).flatMap(([key, value]) => {
        const text = SHOWN.has(key) ? name(value) : undefined;
        return text === undefined ? [] : [[key, text] as const];
      }),
    ),
  );
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;
const get = (value: unknown, key: string): unknown =>
  isObject(value) ? Object.entries(value).find(([k]) => k === key)?.[1] : undefined;

/** A text of a message: short, and without control characters, which a terminal would obey. */
function name(value: unknown): string | undefined {
  return typeof value === 'string' && value.length <= 1000 && isPrintable(value) ? value : undefined;
}

/** The headers that can be shown. */
const shown = (message: GetMessage): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(textHeaders(message)).filter(([, value]) => name(value) !== undefined));

/** Where it came from. */
export function queueOf(message: GetMessage): string | undefined {
  const headers = textHeaders(message);
  return headers[HEADER.queue] ?? headers['x-first-death-queue'];
}

/** The same as long as it lies there. */
export function idOf(message: GetMessage): string {
  const at = textHeaders(message)[HEADER.at] ?? '';
  return createHash('sha256').update(at).update('\0').update(message.content).digest('hex').slice(0, 12);
}

/** Of a compressed one that is damaged, in base64. */
export function bodyText({ content, properties }: GetMessage, { maxMessage }: BusConfig): string {
  if (properties.headers?.['compression'] === undefined) return content.toString('utf8');
  try {
    return unzipSync(content, { maxOutputLength: maxMessage }).toString('utf8');
  } catch {
    // Whatever is wrong with it may be why it is here.
    return content.toString('base64');
  }
}
