/**
 * What is declared, and what never is. Ours: the queue of this host, its retry queue, the dead-letter exchange and queue, the exchange of
 * results. Services' exchanges are looked at and bound to; one that vanished with its broker is made again only with the very flags that
 * it was seen to have. With other flags the *service* would fail.
 */
import type { Options } from 'amqplib';
import type { BusConfig, Config } from '../config/schema.ts';
import { ShiftvolError } from '../errors.ts';
import type { Log } from '../log/log.ts';
import { ask, type BusChannel } from './channel.ts';
import type { Session } from './connection.ts';

const NOT_FOUND = 404;
const INEQUIVALENT = 406;
/** A flag that was seen longer ago than this may have been changed since, by a new release or another configuration. */
const RESTORE_WITHIN_MS = 600_000;
/** Back-stop only: what comes this often without an outcome is dead-lettered by us, at MAX_DELIVERIES in consumer.ts. */
const DELIVERY_LIMIT = 200;

export type QueueNames = { readonly own: string; readonly retry: string };
export function queueNames(pattern: string, host: string): QueueNames {
  const own = pattern.replaceAll('{host}', host);
  return { own, retry: `${own}.retry` };
}

/**
 * The queue of this host. Quorum: survives a broker, and re-encodes headers that amqplib cannot read from a classic one. Overflow is
 * drop-head (to the dead letters), not reject-publish: that would refuse the service's publish, which waits for its confirm.
 */
export function ownQueue(config: BusConfig): Options.AssertQueue {
  const limits = config.queueLimits;
  return {
    durable: true,
    arguments: {
      'x-queue-type': 'quorum',
      'x-dead-letter-exchange': config.deadLetter.exchange,
      'x-max-length': limits.maxLength,
      'x-max-length-bytes': limits.maxBytes,
      'x-overflow': 'drop-head',
      'x-delivery-limit': DELIVERY_LIMIT,
      ...(limits.expiresMs === 0 ? {} : { 'x-expires': limits.expiresMs }),
    },
  };
}

/** Where a message waits before it comes back to the queue of this host. Only we publish to it, so it may refuse: then we keep the message. */
export function retryQueue(config: BusConfig, names: QueueNames): Options.AssertQueue {
  const limits = config.queueLimits;
  return {
    durable: true,
    arguments: {
      'x-queue-type': 'quorum',
      'x-message-ttl': config.retry.delayMs,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': names.own,
      'x-dead-letter-strategy': 'at-least-once',
      'x-overflow': 'reject-publish',
      'x-max-length': limits.maxLength,
      'x-max-length-bytes': limits.maxBytes,
      ...(limits.expiresMs === 0 ? {} : { 'x-expires': limits.expiresMs }),
    },
  };
}

function deadQueue(config: BusConfig): Options.AssertQueue {
  return {
    durable: true,
    arguments: {
      'x-queue-type': 'quorum',
      'x-max-length': config.deadLetter.maxLength,
      'x-max-length-bytes': config.deadLetter.maxBytes,
      'x-overflow': 'drop-head',
    },
  };
}

/** Declares what is ours. Safe to repeat, and to do by several hosts at once. @throws SV_BUS */
export async function declareOwn(session: Session, config: BusConfig, names: QueueNames, log: Log): Promise<void> {
  const dead = config.deadLetter;
  await declare(
    session,
    log,
    dead.exchange,
    c => c.raw.assertExchange(dead.exchange, 'topic', { durable: true }),
    c => c.raw.checkExchange(dead.exchange),
  );
  await declareQueue(session, log, dead.queue, deadQueue(config));
  await must(session, dead.queue, c => c.raw.bindQueue(dead.queue, dead.exchange, '#'));
  await declareQueue(session, log, names.own, ownQueue(config));
  await declareQueue(session, log, names.retry, retryQueue(config, names));
}

/** The exchange of results, as it is if somebody made it already; and the queue that keeps them, if there is to be one. */
export async function declareEvents(session: Session, config: BusConfig, log: Log): Promise<void> {
  const { exchange, durable, queue, topic, queueMaxLength } = config.events;
  await declare(
    session,
    log,
    exchange,
    c => c.raw.assertExchange(exchange, 'topic', { durable }),
    c => c.raw.checkExchange(exchange),
  );
  if (queue === null) return;
  const limits = { 'x-queue-type': 'quorum', 'x-max-length': queueMaxLength, 'x-overflow': 'drop-head' };
  await declareQueue(session, log, queue, { durable: true, arguments: limits });
  for (const priority of ['info', 'error'])
    await must(session, queue, c => c.raw.bindQueue(queue, exchange, `${topic}.${priority}`));
}

/** See `declare`. */
export function declareQueue(session: Session, log: Log, name: string, options: Options.AssertQueue): Promise<void> {
  return declare(
    session,
    log,
    name,
    c => c.raw.assertQueue(name, options),
    c => c.raw.checkQueue(name),
  );
}

/** Makes it as it is wanted; one that is there with other arguments is used as it is: its contents matter more than its limits. */
export async function declare(
  session: Session,
  log: Log,
  name: string,
  make: (c: BusChannel) => Promise<unknown>,
  look: (c: BusChannel) => Promise<unknown>,
): Promise<void> {
  const refused = await ask(session, make);
  if (refused === undefined) return;
  if (refused === INEQUIVALENT && (await ask(session, look)) === undefined) {
    log.warn('exists with other arguments than configured, and is used as it is; delete it to have it made anew', {
      name,
    });
    return;
  }
  throw new ShiftvolError('SV_BUS', `Cannot declare "${name}": the broker answers ${refused}`, {
    remedy:
      refused === 403 ? `allow the user to configure, write and read "${name}"` : `look at "${name}" with rabbitmqctl`,
  });
}

/** For a binding of `name`. @throws SV_BUS */
export async function must(session: Session, name: string, act: (c: BusChannel) => Promise<unknown>): Promise<void> {
  const refused = await ask(session, act);
  if (refused !== undefined) throw new ShiftvolError('SV_BUS', `Cannot bind "${name}": the broker answers ${refused}`);
}

type Flags = { readonly durable: boolean; readonly autoDelete: boolean };
const FLAGS: readonly Flags[] = [
  { durable: false, autoDelete: false },
  { durable: true, autoDelete: false },
  { durable: false, autoDelete: true },
  { durable: true, autoDelete: true },
];

/** `refused`: the user may not read that exchange. The others go on. */
export type BindingState = 'bound' | 'absent' | 'refused';

/** The bindings of one host's queue to services' exchanges on one listen URL. Outlives connections: it remembers the flags. */
export class Bindings {
  readonly #config: BusConfig;
  readonly #host: string;
  readonly #queue: string;
  readonly #log: Log;
  readonly #seen = new Map<string, { flags: Flags; at: number }>();
  readonly #state = new Map<string, BindingState>();

  constructor({ bus, host }: Pick<Config, 'bus' | 'host'>, queue: string, log: Log) {
    this.#config = bus;
    this.#host = host;
    this.#queue = queue;
    this.#log = log;
  }

  /** Exchanges by what is known of them; empty before the first look. */
  get state(): ReadonlyMap<string, BindingState> {
    return this.#state;
  }

  /** Nothing is known any more: the connection is gone, and with a broker that restarts transient exchanges are. */
  forget(): void {
    this.#state.clear();
  }

  /**
   * Binds to every exchange that is there. Done again now and then even when all are bound: an exchange that was deleted and made
   * again has lost our binding, and nobody tells.
   * @returns whether all are there
   */
  async bind(session: Session): Promise<boolean> {
    for (const wanted of this.#config.exchanges) {
      const name = wanted.exchange;
      const state = (await this.#find(session, name)) ? await this.#bindTo(session, wanted) : 'absent';
      if (this.#state.get(name) === state) continue;
      this.#state.set(name, state);
      if (state === 'bound') this.#log.info('hears notifications', { exchange: name, queue: this.#queue });
      if (state === 'absent') this.#log.debug('waits for an exchange that is not there yet', { exchange: name });
      if (state === 'refused')
        this.#log.error('may not bind: allow the user to read the exchange and to write the queue', {
          exchange: name,
          queue: this.#queue,
        });
    }
    return [...this.#state.values()].every(s => s === 'bound');
  }

  async #bindTo(session: Session, wanted: BusConfig['exchanges'][number]): Promise<BindingState> {
    const refused = await ask(session, async c => {
      for (const topic of wanted.topics)
        for (const priority of wanted.priorities)
          await c.raw.bindQueue(this.#queue, wanted.exchange, `${topic.replaceAll('{host}', this.#host)}.${priority}`);
    });
    if (refused === undefined) return 'bound';
    return refused === NOT_FOUND ? 'absent' : 'refused'; // absent: gone since we looked, or our queue is: its consumer will notice
  }

  /** True where the exchange is there, or was made again. */
  async #find(session: Session, name: string): Promise<boolean> {
    const there = (await ask(session, c => c.raw.checkExchange(name))) === undefined;
    if (!this.#config.restoreExchanges) return there;
    const seen = this.#seen.get(name);
    if (there) {
      const flags = (await this.#stillHas(session, name, seen?.flags)) ?? (await this.#learn(session, name));
      if (flags) this.#seen.set(name, { flags, at: Date.now() });
      return true;
    }
    if (seen === undefined || Date.now() - seen.at > RESTORE_WITHIN_MS) return false;
    const refused = await ask(session, c => c.raw.assertExchange(name, 'topic', seen.flags));
    if (refused === undefined)
      this.#log.info('made an exchange again as it was, so that nothing is missed', { exchange: name, ...seen.flags });
    return refused === undefined;
  }

  async #stillHas(session: Session, name: string, flags: Flags | undefined): Promise<Flags | undefined> {
    if (flags === undefined) return undefined;
    return (await ask(session, c => c.raw.assertExchange(name, 'topic', flags))) === undefined ? flags : undefined;
  }

  /** Tries what it could be: the same is accepted and changes nothing, all else is refused. Looks just before each try, lest it be made. */
  async #learn(session: Session, name: string): Promise<Flags | undefined> {
    for (const flags of FLAGS) {
      if ((await ask(session, c => c.raw.checkExchange(name))) !== undefined) return undefined;
      if ((await ask(session, c => c.raw.assertExchange(name, 'topic', flags))) === undefined) return flags;
    }
    return undefined;
  }
}
