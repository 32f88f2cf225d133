/** The dead letters of a broker, for a person: what they are of, why they are here, and sent on their way again. */
import type { GetMessage } from 'amqplib';
import type { BusConfig, Config } from '../config/schema.ts';
import { maskUrl, parseTransportUrl } from '../config/transport-url.ts';
import { ShiftvolError } from '../errors.ts';
import { BusChannel, type PublishProperties, replyCode, textHeaders } from './channel.ts';
import { open, type Session } from './connection.ts';
import { bodyText, type DeadLetter, describe, idOf, queueOf } from './dead-letter.ts';
import { HEADER } from './outlet.ts';

export type Replayed = { readonly id: string; readonly queue: string };

/** As many as are looked at: the whole of a queue with the limits that are usual. */
const MOST = 10_000;
/** Looking counts as a delivery, and RabbitMQ 4 throws away what was delivered twenty times: before that it is put there anew. */
const RENEW_AT = 10;

/** All, oldest first. They stay where they are. @throws SV_BUS, SV_CONFIG */
export async function listDead(config: Config, signal: AbortSignal, limit = MOST): Promise<readonly DeadLetter[]> {
  const all: DeadLetter[] = [];
  await eachBroker(config, signal, async (channel, broker) => {
    const messages = await take(channel, config.bus, Math.max(0, limit - all.length));
    for (const message of messages) all.push(describe(message, config.bus, broker));
    await renew(channel, config.bus, messages);
  });
  return all;
}

/** One, with its body as text. @throws SV_USAGE: none begins with this id, or several */
export async function showDead(
  config: Config,
  id: string,
  signal: AbortSignal,
): Promise<{ readonly letter: DeadLetter; readonly body: string }> {
  const found: { letter: DeadLetter; body: string }[] = [];
  await eachBroker(config, signal, async (channel, broker) => {
    const messages = await take(channel, config.bus, MOST);
    for (const message of messages)
      if (idOf(message).startsWith(id))
        found.push({ letter: describe(message, config.bus, broker), body: bodyText(message, config.bus) });
    await renew(channel, config.bus, messages);
  });
  const [one] = found;
  if (one === undefined || found.length > 1) throw notOne(id, found.length);
  return one;
}

/**
 * Puts them back into the queues that they came from, with their attempts counted anew. One whose queue is gone stays, and so does one
 * whose queue is none of ours: a header says it, and anybody may have written that.
 */
export async function replayDead(
  config: Config,
  ids: readonly string[] | 'all',
  signal: AbortSignal,
): Promise<{
  readonly replayed: readonly Replayed[];
  readonly kept: readonly (Replayed & { readonly why: string })[];
}> {
  const replayed: Replayed[] = [];
  const kept: (Replayed & { why: string })[] = [];
  await chosen(config, ids, signal, async (channel, message) => {
    const id = idOf(message);
    const queue = queueOf(message) ?? '';
    if (!isOurs(queue, config.bus)) kept.push({ id, queue, why: 'it did not come from a queue of an agent or router' });
    else if (await channel.offer('', queue, message.content, asBefore(message), { mandatory: true })) {
      channel.raw.ack(message);
      replayed.push({ id, queue });
    } else kept.push({ id, queue, why: 'there is no such queue any more' });
  });
  return { replayed, kept };
}

/** Throws them away. @returns their ids */
export async function dropDead(
  config: Config,
  ids: readonly string[] | 'all',
  signal: AbortSignal,
): Promise<readonly string[]> {
  const dropped: string[] = [];
  await chosen(config, ids, signal, async (channel, message) => {
    channel.raw.ack(message);
    dropped.push(idOf(message));
  });
  return dropped;
}

/** Every id must name one before anything is done with any. */
async function chosen(
  config: Config,
  ids: readonly string[] | 'all',
  signal: AbortSignal,
  act: (channel: BusChannel, message: GetMessage) => Promise<void>,
): Promise<void> {
  if (ids !== 'all') {
    const there = await listDead(config, signal);
    for (const id of ids) {
      const count = there.filter(letter => letter.id.startsWith(id)).length;
      if (count !== 1) throw notOne(id, count);
    }
  }
  await eachBroker(config, signal, async channel => {
    const messages = await take(channel, config.bus, MOST);
    for (const message of messages)
      if (ids === 'all' || ids.some(id => idOf(message).startsWith(id))) await act(channel, message);
  });
}

/** What was taken and not settled goes back with the channel. */
async function eachBroker(
  config: Config,
  signal: AbortSignal,
  use: (channel: BusChannel, broker: string) => Promise<void>,
): Promise<void> {
  const { listen, url } = config.bus;
  const urls = [...new Set([...listen, ...(listen.length === 0 && url !== null ? [url] : [])])];
  if (urls.length === 0)
    throw new ShiftvolError('SV_CONFIG', 'Cannot look at dead letters: no transport URL is configured', {
      field: 'bus.listen',
      remedy: 'set bus.listen, or $SHIFTVOL_TRANSPORT_URL',
    });
  for (const text of urls) {
    const target = parseTransportUrl(text);
    await using connection = await openAny(config, text, signal);
    const session: Session = { model: connection.model, broker: maskUrl(text), signal: connection.signal };
    await using channel = await BusChannel.open(session);
    try {
      await use(channel, `${target.hosts[0]?.host ?? ''}/${target.vhost === '/' ? '' : target.vhost}`);
    } catch (error) {
      if (replyCode(error) === 404) continue; // nothing was ever buried here
      throw error;
    }
  }
}

async function openAny(config: Config, url: string, signal: AbortSignal) {
  const target = parseTransportUrl(url);
  let failure: unknown;
  for (const broker of target.hosts) {
    try {
      return await open(broker, target, config.bus, `shiftvol:${config.host}:deadletter`, signal);
    } catch (error) {
      signal.throwIfAborted();
      failure ??= error;
    }
  }
  throw failure;
}

async function take(channel: BusChannel, { deadLetter }: BusConfig, limit: number): Promise<readonly GetMessage[]> {
  const messages: GetMessage[] = [];
  while (messages.length < limit) {
    const message = await channel.raw.get(deadLetter.queue, { noAck: false });
    if (message === false) break;
    messages.push(message);
  }
  return messages;
}

async function renew(channel: BusChannel, { deadLetter }: BusConfig, messages: readonly GetMessage[]): Promise<void> {
  for (const message of messages) {
    const count: unknown = message.properties.headers?.['x-delivery-count'];
    if (typeof count !== 'number' || count < RENEW_AT) continue;
    if (
      await channel.offer('', deadLetter.queue, message.content, propertiesOf(message, textHeaders(message)), {
        mandatory: true,
      })
    )
      channel.raw.ack(message);
  }
}

function isOurs(queue: string, { queue: pattern, route }: BusConfig): boolean {
  if (queue === route.queue) return true;
  const [head = '', ...rest] = pattern.split('{host}');
  const tail = rest.join('{host}');
  if (rest.length === 0) return queue === pattern;
  return queue.length > head.length + tail.length && queue.startsWith(head) && queue.endsWith(tail);
}

/** As it came to us first. */
function asBefore(message: GetMessage): PublishProperties {
  const dropped = new Set<string>([
    HEADER.reason,
    HEADER.code,
    HEADER.host,
    HEADER.queue,
    HEADER.at,
    HEADER.attempt,
    HEADER.firstSeen,
  ]);
  const headers = Object.entries(textHeaders(message)).filter(
    ([key]) => !dropped.has(key) && !/^x-(?:first|last)-death-/.test(key),
  );
  return propertiesOf(message, Object.fromEntries(headers));
}

function propertiesOf({ properties }: GetMessage, headers: Readonly<Record<string, string>>): PublishProperties {
  const { contentType, contentEncoding, messageId } = properties;
  return {
    ...(typeof contentType === 'string' ? { contentType } : {}),
    ...(typeof contentEncoding === 'string' ? { contentEncoding } : {}),
    ...(typeof messageId === 'string' ? { messageId } : {}),
    headers,
  };
}

function notOne(id: string, count: number): ShiftvolError {
  return new ShiftvolError(
    'SV_USAGE',
    `Cannot find the dead letter ${JSON.stringify(id)}: ${count === 0 ? 'none has' : `${count} have`} an id that begins so`,
    { field: 'id', remedy: '"shiftvol deadletter list" shows them' },
  );
}
