/** Where messages go that this host does not keep: the dead letters, and the queue of those that come back later. */
import type { ConsumeMessage } from 'amqplib';
import type { BusConfig } from '../config/schema.ts';
import { CODES, type Code } from '../errors.ts';
import { BusChannel, type PublishProperties, textHeaders } from './channel.ts';
import type { Session } from './connection.ts';
import type { QueueNames } from './topology.ts';

/** Our own headers: texts, since Python may read them. */
export const HEADER = {
  reason: 'x-shiftvol-reason',
  code: 'x-shiftvol-code',
  host: 'x-shiftvol-host',
  queue: 'x-shiftvol-queue',
  at: 'x-shiftvol-at',
  attempt: 'x-shiftvol-attempt',
  firstSeen: 'x-shiftvol-first-seen',
  exchange: 'x-shiftvol-exchange',
  key: 'x-shiftvol-routing-key',
} as const;

/** What a message carries of its time with us. */
export type Passage = {
  readonly attempts: number;
  /** When it came to us first; absent where that is now. */
  readonly firstSeenMs?: number;
  readonly exchange: string;
  readonly key: string;
  /** Why it was put aside last. */
  readonly code?: Code;
};

export function passageOf(message: ConsumeMessage): Passage {
  const headers = textHeaders(message);
  const code = headers[HEADER.code];
  const number = (text: string | undefined) =>
    text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  const firstSeenMs = number(headers[HEADER.firstSeen]);
  return {
    attempts: number(headers[HEADER.attempt]) ?? 0,
    ...(firstSeenMs === undefined ? {} : { firstSeenMs }),
    exchange: headers[HEADER.exchange] ?? message.fields.exchange,
    key: headers[HEADER.key] ?? message.fields.routingKey,
    ...(isCode(code) ? { code } : {}),
  };
}

const isCode = (text: string | undefined): text is Code => text !== undefined && Object.hasOwn(CODES, text);

export type Why = { readonly code: string; readonly reason: string };

/**
 * One for each session. Has a channel of its own: a publish that is refused closes its channel, and with it everything unacknowledged
 * on it; the channel is opened again at the next use.
 */
export class Outlet implements AsyncDisposable {
  readonly #session: Session;
  readonly #config: BusConfig;
  readonly #names: QueueNames;
  readonly #host: string;
  #channel: Promise<BusChannel> | undefined;

  constructor(session: Session, config: BusConfig, names: QueueNames, host: string) {
    this.#session = session;
    this.#config = config;
    this.#names = names;
    this.#host = host;
  }

  /** Resolves when the dead letters have it. The caller acknowledges it then. @throws SV_BUS */
  async bury(message: ConsumeMessage, why: Why): Promise<void> {
    const { key } = passageOf(message);
    await this.#publish(this.#config.deadLetter.exchange, key, message, why);
  }

  /** Resolves when the retry queue has it. `firstSeenMs`: when it came, which may be a while ago. @throws SV_BUS */
  async later(message: ConsumeMessage, why: Why, firstSeenMs: number): Promise<void> {
    await this.#publish('', this.#names.retry, message, why, { attempt: 1, firstSeenMs });
  }

  async #publish(
    exchange: string,
    key: string,
    message: ConsumeMessage,
    why: Why,
    more: { readonly attempt: number; readonly firstSeenMs?: number } = { attempt: 0 },
  ): Promise<void> {
    const passage = passageOf(message);
    const { contentType, contentEncoding, messageId } = message.properties;
    const properties: PublishProperties = {
      ...(typeof contentType === 'string' ? { contentType } : {}),
      ...(typeof contentEncoding === 'string' ? { contentEncoding } : {}),
      ...(typeof messageId === 'string' ? { messageId } : {}),
      headers: {
        ...textHeaders(message), // "compression" among them: the body is left as it is
        [HEADER.reason]: why.reason,
        [HEADER.code]: why.code,
        [HEADER.host]: this.#host,
        [HEADER.queue]: this.#names.own,
        [HEADER.at]: new Date().toISOString(),
        [HEADER.attempt]: String(passage.attempts + more.attempt),
        [HEADER.firstSeen]: String(passage.firstSeenMs ?? more.firstSeenMs ?? Date.now()),
        [HEADER.exchange]: passage.exchange,
        [HEADER.key]: passage.key,
      },
    };
    const channel = await this.#open();
    await channel.publish(exchange, key, message.content, properties, { mandatory: true });
  }

  async #open(): Promise<BusChannel> {
    const open = await this.#channel?.catch(() => undefined); // its failure was told to who asked for it
    if (open && !open.signal.aborted) return open;
    const opening = BusChannel.open(this.#session);
    this.#channel = opening;
    return opening;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#channel?.catch(() => undefined))?.[Symbol.asyncDispose]();
  }
}
