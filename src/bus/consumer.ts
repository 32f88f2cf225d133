/** The subscription to one listen URL: declares, binds, consumes, and does it again whenever something of that is taken away. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumeMessage } from 'amqplib';
import type { Config } from '../config/schema.ts';
import { maskUrl } from '../config/transport-url.ts';
import type { Log } from '../log/log.ts';
import { ask, BusChannel } from './channel.ts';
import { reason, type Session } from './connection.ts';
import type { Desk } from './intake.ts';
import { Outlet } from './outlet.ts';
import { type BindingState, declareOwn, type QueueNames } from './topology.ts';

/** How long handlers may go on at a stop before they are told to; and how long they may take then. */
const STOP_TIMEOUT_MS = 30_000;
const CUT_TIMEOUT_MS = 10_000;
/** Bindings are looked at again after so many `rebind_ms` even when all are there. */
const REBIND_FACTOR = 30;

export type Backlog = { readonly waiting: number; readonly deadLetters: number };

/** Where a queue's messages come from. Outlives connections. */
export interface Sources {
  /** Exchanges by what is known of them; empty before the first look. */
  readonly state: ReadonlyMap<string, BindingState>;
  /** Nothing is known any more: the connection is gone. */
  forget(): void;
  /** Binds to all that is there; safe to repeat. Returns whether all is. */
  bind(session: Session): Promise<boolean>;
}

/** What is done with the messages. */
export interface Taker {
  /** The number of messages that are worked on now. */
  readonly working: number;
  take(message: ConsumeMessage, desk: Desk): void;
  /** Resolves when nothing is worked on, or the time is over. */
  settled(timeoutMs: number): Promise<void>;
  /** What is worked on is to stop at once. */
  cut(): void;
}

export type ConsumerParts = {
  readonly names: QueueNames;
  readonly sources: Sources;
  readonly taker: Taker;
  /** Messages that are given to us before the first is acknowledged. */
  readonly prefetch: number;
};

export class Consumer {
  readonly names: QueueNames;
  /** Without a password. */
  readonly url: string;
  readonly #config: Config;
  readonly #log: Log;
  readonly #intake: Taker;
  readonly #bindings: Sources;
  readonly #prefetch: number;
  #subscribed = false;
  #backlog: Backlog | undefined;

  constructor(config: Config, url: string, { names, sources, taker, prefetch }: ConsumerParts, log: Log) {
    this.#config = config;
    this.#log = log;
    this.url = maskUrl(url);
    this.names = names;
    this.#intake = taker;
    this.#bindings = sources;
    this.#prefetch = prefetch;
  }

  /** The broker has said that it will give us messages, on a channel that is open. */
  get subscribed(): boolean {
    return this.#subscribed;
  }

  get exchanges(): ReadonlyMap<string, BindingState> {
    return this.#bindings.state;
  }

  /** What lay in the queues at the last look, once a minute or so; undefined before the first. */
  get backlog(): Backlog | undefined {
    return this.#backlog;
  }

  /** Tells the handlers to stop, instead of waiting for them. */
  cut(): void {
    this.#intake.cut();
  }

  /** One connection's time. Ends with it, or when `stop` is aborted and what was begun is settled. */
  async run(session: Session, stop: AbortSignal): Promise<void> {
    this.#bindings.forget();
    while (!session.signal.aborted && !stop.aborted) {
      await declareOwn(session, this.#config.bus, this.names, this.#log);
      await this.#bindings.bind(session);
      const why = await this.#consume(session, stop);
      if (session.signal.aborted || stop.aborted) return;
      this.#log.warn('the subscription ended; all is declared again', { queue: this.names.own, why });
      // Only an abort ends it early, and the loop looks for that.
      await sleep(this.#config.bus.reconnect.minMs, undefined, { signal: session.signal }).catch(() => undefined);
    }
  }

  /** Resolves when the subscription has ended, whoever ended it, with the reason. */
  async #consume(session: Session, stop: AbortSignal): Promise<string> {
    await using channel = await BusChannel.open(session);
    await using outlet = new Outlet(session, this.#config.bus, this.names, this.#config.host);
    const cancelled = new AbortController();
    const ended = AbortSignal.any([channel.signal, cancelled.signal, stop]);
    const desk = { channel, outlet, stop };
    await channel.raw.prefetch(this.#prefetch, false);
    const { consumerTag } = await channel.raw.consume(this.names.own, message => {
      if (message === null) cancelled.abort(new Error('the queue was taken away, with what was in it'));
      else this.#intake.take(message, desk);
    });
    this.#subscribed = !ended.aborted;
    this.#log.info('subscribed', { queue: this.names.own, broker: session.broker });
    try {
      await this.#keepBound(session, ended);
    } finally {
      this.#subscribed = false;
      if (stop.aborted && !channel.signal.aborted) await this.#finish(channel, consumerTag);
    }
    return reason(ended.reason);
  }

  /** No new ones; the rest is settled on the channel that it came on, else the broker gives it out again. */
  async #finish(channel: BusChannel, consumerTag: string): Promise<void> {
    await channel.raw.cancel(consumerTag).catch(() => undefined); // closed meanwhile: cancelled, too
    await this.#intake.settled(STOP_TIMEOUT_MS);
    this.#intake.cut();
    await this.#intake.settled(CUT_TIMEOUT_MS);
  }

  async #keepBound(session: Session, ended: AbortSignal): Promise<void> {
    const { rebindMs } = this.#config.bus;
    let all = [...this.#bindings.state.values()].every(s => s === 'bound');
    let nextLook = performance.now();
    while (!ended.aborted) {
      if (performance.now() >= nextLook) {
        await this.#lookAtQueues(session);
        nextLook = performance.now() + rebindMs * REBIND_FACTOR;
      }
      await sleep(all ? rebindMs * REBIND_FACTOR : rebindMs, undefined, { signal: ended }).catch(() => undefined); // as above
      if (!ended.aborted) all = await this.#bindings.bind(session);
    }
  }

  async #lookAtQueues(session: Session): Promise<void> {
    const count = async (queue: string) => {
      let waiting = 0;
      await ask(session, async c => {
        waiting = (await c.raw.checkQueue(queue)).messageCount;
      });
      return waiting;
    };
    this.#backlog = {
      waiting: await count(this.names.own),
      deadLetters: await count(this.#config.bus.deadLetter.queue),
    };
  }
}
