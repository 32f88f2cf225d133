/** One connection to one transport URL, for as long as it is wanted: over all its hosts, with backoff and jitter. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ChannelModel, connect } from 'amqplib';
import type { BusConfig } from '../config/schema.ts';
import { type BrokerHost, maskUrl, parseTransportUrl, type TransportUrl } from '../config/transport-url.ts';
import { ShiftvolError } from '../errors.ts';
import type { Log } from '../log/log.ts';

/** A connection that is up. It ends once; a new one is another session, and nothing of the old one may be used on it. */
export type Session = {
  readonly model: ChannelModel;
  /** `host:port` */
  readonly broker: string;
  /** Aborted when the connection is gone. Not by a wish to stop: what was begun is brought to its end first. */
  readonly signal: AbortSignal;
};
export type ConnectionOptions = Pick<BusConfig, 'reconnect' | 'tls' | 'heartbeatS'>;

/**
 * Connects, calls `use`, and connects again whenever `use` ends, which it does when the connection is gone or `signal` is aborted. With
 * that it resolves. What `use` throws is logged, and waited upon like a connection that failed.
 * @param name shown in RabbitMQ's list of connections
 */
export async function keepConnected(
  url: string,
  options: ConnectionOptions,
  name: string,
  use: (session: Session) => Promise<void>,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const target = parseTransportUrl(url);
  const shown = maskUrl(url);
  // Each agent begins with another host, so that a cluster's first one does not get them all.
  const hosts = shuffle(target.hosts);
  let failures = 0;
  while (!signal.aborted) {
    const started = performance.now();
    const broker = hosts[failures % hosts.length];
    if (broker === undefined) return;
    const where = `${broker.host}:${broker.port}`;
    try {
      await using connection = await open(broker, target, options, name, signal);
      log.info('connected to the broker', { broker: where, url: shown });
      await use({ model: connection.model, broker: where, signal: connection.signal });
      connection.signal.throwIfAborted();
    } catch (error) {
      if (signal.aborted) return;
      log.warn('the broker cannot be used', { broker: where, url: shown, error: reason(error) });
    }
    // What held for a while was all right: begin with short waits again.
    failures = performance.now() - started > options.reconnect.maxMs ? 1 : failures + 1;
    const round = Math.floor(failures / hosts.length);
    const wait =
      round === 0 ? 0 : Math.min(options.reconnect.maxMs, options.reconnect.minMs * 2 ** Math.min(round - 1, 20));
    await sleep(wait * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined); // only an abort ends it early
  }
}

type Connection = AsyncDisposable & { readonly model: ChannelModel; readonly signal: AbortSignal };

/** One attempt, for doctor and for the loop above. @throws SV_BUS */
export async function open(
  broker: BrokerHost,
  target: TransportUrl,
  options: ConnectionOptions,
  name: string,
  signal: AbortSignal,
): Promise<Connection> {
  const attempt = connect(
    {
      protocol: target.tls ? 'amqps' : 'amqp',
      hostname: broker.host,
      port: broker.port,
      username: broker.user,
      password: broker.password,
      // amqplib decodes it once more.
      vhost: encodeURIComponent(target.vhost),
      heartbeat: target.heartbeatSeconds ?? options.heartbeatS,
    },
    {
      // Without it an answer waits for the 40 ms of Nagle and delayed acknowledgement.
      noDelay: true,
      keepAlive: true,
      timeout: options.reconnect.timeoutMs,
      clientProperties: { connection_name: name },
      ...(target.tls ? tlsFiles(target, options) : {}),
    },
  );
  const model = await deadline(attempt, options.reconnect.timeoutMs, signal).catch((error: unknown) => {
    // It may still come up when nobody waits for it any more.
    attempt.then(late => late.on('error', () => {}).close()).catch(() => undefined);
    // amqplib drops the broker's text (530 NOT_ALLOWED) at this step of the handshake, where only the vhost is asked for.
    const vhost = error instanceof Error && error.message.startsWith('Expected ConnectionOpenOk');
    const why = vhost ? `: it refuses the vhost "${target.vhost}"` : '';
    throw new ShiftvolError('SV_BUS', `Cannot connect to the broker ${broker.host}:${broker.port}${why}`, {
      cause: error,
    });
  });
  const lost = new AbortController();
  const gone = (cause: unknown) =>
    lost.abort(
      new ShiftvolError('SV_BUS', `Lost the connection to the broker ${broker.host}:${broker.port}`, { cause }),
    );
  // 'error' without a listener would end the process; 'close' follows it.
  model.on('error', gone).on('close', gone);
  model.on('handler-error', gone);
  return {
    model,
    signal: lost.signal,
    async [Symbol.asyncDispose]() {
      if (lost.signal.aborted) return;
      // A broker that does not answer must not keep us; the socket goes with the process or its own timeout.
      await deadline(model.close(), 5000).catch(() => undefined);
    },
  };
}

function tlsFiles(target: TransportUrl, { tls }: ConnectionOptions) {
  const [ca, cert, key] = [target.caFile ?? tls.ca, target.certFile ?? tls.cert, target.keyFile ?? tls.key];
  return {
    ...(ca ? { ca: [readFileSync(ca)] } : {}),
    ...(cert ? { cert: readFileSync(cert) } : {}),
    ...(key ? { key: readFileSync(key) } : {}),
  };
}

/** What `promise` gives, or a rejection when `timeoutMs` are over or `signal` is aborted. */
export async function deadline<T>(promise: Promise<T>, timeoutMs: number, signal?: AbortSignal): Promise<T> {
  const stop = new AbortController();
  const limit = AbortSignal.any([AbortSignal.timeout(timeoutMs), stop.signal, ...(signal ? [signal] : [])]);
  const over = new Promise<never>((_, reject) => {
    if (limit.aborted) reject(limit.reason);
    limit.addEventListener('abort', () => reject(limit.reason), { once: true });
  });
  try {
    return await Promise.race([promise, over]);
  } finally {
    over.catch(() => undefined);
    stop.abort();
  }
}

function shuffle<T>(items: readonly T[]): readonly T[] {
  return items
    .map(item => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** The texts of an error and its causes, in one line. */
export function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error && typeof error.code === 'string' && error.message === '' ? error.code : error.message;
  return error.cause === undefined ? code : `${code}: ${reason(error.cause)}`;
}
