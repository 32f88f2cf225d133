/** Tells what happened: takes events out of the outbox, in order, and forgets each when the broker has confirmed it. */
import type { BusConfig } from '../config/schema.ts';
import { type ToldMessage, toldChannel } from '../engine/channels.ts';
import type { Log } from '../log/log.ts';
import { BusChannel } from './channel.ts';
import type { Session } from './connection.ts';
import { notificationOf } from './notification.ts';
import type { Outbox, OutboxEntry } from './outbox.ts';
import { declareEvents } from './topology.ts';

/** Published before the first is confirmed: what a dead broker may get twice. */
const BATCH = 64;

export class Publisher {
  /** Confirmed by the broker since the start. */
  published = 0;
  readonly #config: BusConfig;
  readonly #outbox: Outbox;
  readonly #log: Log;
  #ready = false;

  constructor(config: BusConfig, outbox: Outbox, log: Log) {
    this.#config = config;
    this.#outbox = outbox;
    this.#log = log;
  }

  /** A channel is open and the exchange is there. */
  get ready(): boolean {
    return this.#ready;
  }

  /** One connection's time. Ends with it, or when `stop` is aborted and what was there then has been told. */
  async run(session: Session, stop: AbortSignal): Promise<void> {
    await declareEvents(session, this.#config, this.#log);
    await using channel = await BusChannel.open(session);
    const ended = AbortSignal.any([channel.signal, stop]);
    const bell = new Bell(this.#outbox);
    try {
      this.#ready = true;
      while (!channel.signal.aborted) {
        bell.clear();
        const batch = this.#outbox.pending(BATCH);
        if (batch.length > 0) await this.#tell(channel, batch);
        else if (stop.aborted) return;
        else await bell.wait(ended);
      }
    } finally {
      this.#ready = false;
      bell.silence();
    }
  }

  /** All at once, confirmed one after the other, so that order is kept and a failure leaves the rest in the outbox. */
  async #tell(channel: BusChannel, batch: readonly OutboxEntry[]): Promise<void> {
    const { exchange, topic } = this.#config.events;
    const began = performance.now();
    const publishing = batch.map(entry => {
      const { content, contentType, contentEncoding, priority } = notificationOf(entry);
      // No AMQP message id and no headers: like oslo.messaging's own.
      return channel.publish(
        exchange,
        `${topic}.${priority}`,
        content,
        { contentType, contentEncoding },
        { mandatory: false },
      );
    });
    for (const p of publishing) p.catch(() => undefined); // the loop below throws the first; the others are its consequence
    for (const [i, entry] of batch.entries()) {
      await publishing[i];
      this.#outbox.sent(entry.id);
      this.published++;
      if (!toldChannel.hasSubscribers) continue;
      const told: ToldMessage = { event: entry.event, exchange, ms: performance.now() - began };
      toldChannel.publish(told);
    }
  }
}

/** Wakes at the next addition to the outbox, also at one between `clear` and `wait`. */
class Bell {
  readonly silence: () => void;
  #rung = false;
  #wake: () => void = () => {};

  constructor(outbox: Outbox) {
    this.silence = outbox.onAdded(() => {
      this.#rung = true;
      this.#wake();
    });
  }

  clear(): void {
    this.#rung = false;
  }

  async wait(ended: AbortSignal): Promise<void> {
    if (this.#rung || ended.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    this.#wake = wake;
    ended.addEventListener('abort', wake, { once: true });
    await promise;
    ended.removeEventListener('abort', wake);
  }
}
