/** Hears what agents tell of their work, for a person who watches: a queue of its own that goes with the connection. */
import type { Config } from '../config/schema.ts';
import { parseTransportUrl } from '../config/transport-url.ts';
import { ShiftvolError } from '../errors.ts';
import { BusChannel } from './channel.ts';
import { open } from './connection.ts';
import { decode } from './envelope.ts';
import { tellUrl } from './urls.ts';

/** As agents have written it: see notification.ts. */
export type HeardEvent = {
  readonly event: string;
  readonly at: string;
  readonly publisher: string;
  readonly payload: Readonly<Record<string, unknown>>;
};

/** What a watcher who does not read may let wait; the oldest go. */
const BACKLOG = 1000;

/**
 * Calls `hear` for each event of every agent on the broker, until `signal` is aborted.
 * @throws SV_CONFIG: there is no broker; SV_BUS: it went away, or no agent has ever told anything on it
 */
export async function followEvents(
  config: Config,
  hear: (event: HeardEvent) => void,
  signal: AbortSignal,
): Promise<void> {
  const url = tellUrl(config);
  if (url === undefined)
    throw new ShiftvolError('SV_CONFIG', 'Cannot follow events: no transport URL is configured', {
      field: 'bus.url',
      remedy: 'set bus.listen or bus.url, or $SHIFTVOL_TRANSPORT_URL',
    });
  const target = parseTransportUrl(url);
  const [broker] = target.hosts;
  if (broker === undefined) return;
  const { exchange, topic } = config.bus.events;
  await using connection = await open(broker, target, config.bus, `shiftvol:${config.host}:events`, signal);
  const session = { model: connection.model, broker: broker.host, signal: connection.signal };
  await using channel = await BusChannel.open(session);
  const { queue } = await channel.raw.assertQueue('', {
    exclusive: true,
    autoDelete: true,
    arguments: { 'x-max-length': BACKLOG },
  });
  try {
    for (const priority of ['info', 'error']) await channel.raw.bindQueue(queue, exchange, `${topic}.${priority}`);
  } catch (cause) {
    throw new ShiftvolError('SV_BUS', `Cannot follow events: there is no exchange "${exchange}" on the broker`, {
      remedy: 'start an agent there, which makes it: shiftvol serve',
      cause,
    });
  }
  const take = (message: Parameters<Parameters<typeof channel.raw.consume>[1]>[0]) => {
    const decoded = message === null ? undefined : decode(message, config.bus.maxMessage);
    const heard = decoded?.ok ? read(decoded.inner) : undefined;
    if (heard) hear(heard);
  };
  await channel.raw.consume(queue, take, { noAck: true });
  const { promise: over, resolve: end } = Promise.withResolvers<void>();
  const any = AbortSignal.any([signal, channel.signal]);
  any.addEventListener('abort', () => end(), { once: true });
  if (!any.aborted) await over;
  if (!signal.aborted) channel.signal.throwIfAborted();
}

/** Of others' messages, which may be on the same exchange, nothing. */
function read(inner: object): HeardEvent | undefined {
  const fields = new Map(Object.entries(inner));
  const [event, at, publisher, payload] = ['event_type', 'timestamp', 'publisher_id', 'payload'].map(k =>
    fields.get(k),
  );
  if (typeof event !== 'string' || !event.startsWith('shiftvol.')) return undefined;
  return {
    event,
    at: String(at ?? ''),
    publisher: String(publisher ?? ''),
    payload: typeof payload === 'object' && payload !== null ? { ...payload } : {},
  };
}
