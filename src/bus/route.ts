/** The way from a router to a host: one topic exchange, one key a host and event. */
import type { Config } from '../config/schema.ts';
import { hostsOf } from '../events/translate.ts';
import type { Log } from '../log/log.ts';
import { ask } from './channel.ts';
import type { Session } from './connection.ts';
import type { Sources } from './consumer.ts';
import { type BindingState, declare } from './topology.ts';

/** AMQP's limit of a routing key, in bytes. */
const MAX_KEY = 255;

/**
 * `host.HOST.EVENT`, where HOST is one word of the key: a host named `node1` must not get what is for `node1.example.org`. Undefined
 * where it would be too long.
 */
export function routeKey(host: string, event: string): string | undefined {
  const key = `host.${word(host)}.${event}`;
  return Buffer.byteLength(key) <= MAX_KEY ? key : undefined;
}

/** Everything that is for `host`. */
export const hostPattern = (host: string): string => `host.${word(host)}.#`;

const word = (host: string): string =>
  host.replace(/[%.*#]/g, c => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);

/** Ours, so it is declared by whoever comes first, a router or a host. @throws SV_BUS */
export async function declareRoute(session: Session, exchange: string, log: Log): Promise<void> {
  await declare(
    session,
    log,
    exchange,
    c => c.raw.assertExchange(exchange, 'topic', { durable: true }),
    c => c.raw.checkExchange(exchange),
  );
}

/** The bindings of one host's queue to what routers give out. */
export class RouteBindings implements Sources {
  readonly #exchange: string;
  readonly #patterns: readonly string[];
  readonly #queue: string;
  readonly #log: Log;
  readonly #state = new Map<string, BindingState>();

  constructor({ bus, bindings, host }: Config, queue: string, log: Log) {
    this.#exchange = bus.route.exchange;
    this.#patterns = hostsOf(bindings, host).map(hostPattern);
    this.#queue = queue;
    this.#log = log;
  }

  get state(): ReadonlyMap<string, BindingState> {
    return this.#state;
  }

  forget(): void {
    this.#state.clear();
  }

  async bind(session: Session): Promise<boolean> {
    await declareRoute(session, this.#exchange, this.#log);
    const refused = await ask(session, async c => {
      for (const pattern of this.#patterns) await c.raw.bindQueue(this.#queue, this.#exchange, pattern);
    });
    const state = refused === undefined ? 'bound' : 'refused';
    if (this.#state.get(this.#exchange) !== state) {
      const facts = { exchange: this.#exchange, queue: this.#queue };
      if (state === 'bound') this.#log.info('hears a router', facts);
      else this.#log.error('may not bind: allow the user to read the exchange and to write the queue', facts);
    }
    this.#state.set(this.#exchange, state);
    return state === 'bound';
  }
}
