/**
 * Reads one listen URL. A message is acknowledged when its outcome is known and kept: carried out (the journal has it), not for us, given to
 * the dead letters, or put aside for later. None waits behind another: up to `prefetch` are worked on at the same time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumeMessage } from 'amqplib';
import type { Config } from '../config/schema.ts';
import { maskUrl } from '../config/transport-url.ts';
import type { Command } from '../engine/model.ts';
import { isError } from '../errors.ts';
import { uniqueId } from '../events/notification.ts';
import { type Translation, type Translator, translator } from '../events/translate.ts';
import { BusChannel } from './channel.ts';
import { reason, type Session } from './connection.ts';
import { type Counters, newCounters } from './counters.ts';
import { decode } from './envelope.ts';
import type { Log } from './log.ts';
import { Outlet, passageOf, type Why } from './outlet.ts';
import { Recent } from './recent.ts';
import { type BindingState, Bindings, declareOwn, type QueueNames, queueNames } from './topology.ts';
import { judge, reasonText } from './verdict.ts';

export type Handler = (command: Command, signal: AbortSignal) => Promise<void>;

/** Messages of one kind that are remembered, to know them again. At 3 kB each this is what a queue of 30 MB holds. */
const WINDOW = 10_000;
/** A message that came this often without an outcome may be what kills us. */
const MAX_DELIVERIES = 20;
/** How long handlers that were told to stop may take. */
const STOP_TIMEOUT_MS = 30_000;
/** Bindings are looked at again after so many `rebind_ms` even when all are there. */
const REBIND_FACTOR = 30;

export class Consumer {
  readonly counters: Counters = newCounters();
  readonly names: QueueNames;
  /** Without a password. */
  readonly url: string;
  readonly #config: Config;
  readonly #handle: Handler;
  readonly #log: Log;
  readonly #translate: Translator;
  readonly #bindings: Bindings;
  /** Outcome of commands by the message's id; a redelivery or a second topic waits for the first one. */
  readonly #known = new Recent<Promise<boolean>>(WINDOW);
  /** When the last detach of a volume, or destroy of an instance, was seen: an attach that was put aside before is void. */
  readonly #undone = new Recent<number>(WINDOW);
  readonly #working = new Set<Promise<void>>();
  #subscribed = false;

  constructor(config: Config, url: string, handle: Handler, log: Log) {
    this.#config = config;
    this.#handle = handle;
    this.#log = log;
    this.url = maskUrl(url);
    this.names = queueNames(config.bus, config.host);
    this.#translate = translator(config.bindings, config.host);
    this.#bindings = new Bindings(config.bus, this.names.own, log);
  }

  /** The broker has said that it will give us messages, on a channel that is open. */
  get subscribed(): boolean {
    return this.#subscribed;
  }

  get exchanges(): ReadonlyMap<string, BindingState> {
    return this.#bindings.state;
  }

  /** The number of messages that are worked on now. */
  get working(): number {
    return this.#working.size;
  }

  /** One connection's time: declares, binds, consumes; a queue that is deleted meanwhile is declared again. Ends with the connection. */
  async run(session: Session, stop: AbortSignal): Promise<void> {
    this.#bindings.forget();
    while (!session.signal.aborted && !stop.aborted) {
      await declareOwn(session, this.#config.bus, this.names, this.#log);
      await this.#bindings.bind(session);
      await this.#consume(session, stop);
      if (session.signal.aborted || stop.aborted) return;
      this.#log.warn('the queue was taken away; it is declared again, what was in it is lost', {
        queue: this.names.own,
      });
      await sleep(this.#config.bus.reconnect.minMs, undefined, { signal: session.signal }).catch(() => undefined); // ended: the loop sees it
    }
  }

  /** Resolves when the subscription has ended, whoever ended it, and everything of it has been settled. */
  async #consume(session: Session, stop: AbortSignal): Promise<void> {
    await using channel = await BusChannel.open(session);
    await using outlet = new Outlet(session, this.#config.bus, this.names, this.#config.host);
    const over = new AbortController();
    const ended = AbortSignal.any([channel.signal, over.signal, stop]);
    await channel.raw.prefetch(this.#config.bus.prefetch, false);
    const { consumerTag } = await channel.raw.consume(this.names.own, message => {
      if (message === null) {
        over.abort(); // the broker cancelled us: the queue is gone
        return;
      }
      const work = this.#process(message, channel, outlet, stop);
      this.#working.add(work);
      work.finally(() => this.#working.delete(work));
    });
    this.#subscribed = !ended.aborted;
    this.#log.info('subscribed', { queue: this.names.own, broker: session.broker });
    try {
      await this.#keepBound(session, ended);
    } finally {
      this.#subscribed = false;
      // In order at a stop: no new ones, the rest is settled on the channel that it came on. Else the broker gives it out again.
      if (stop.aborted && !channel.signal.aborted) {
        await channel.raw.cancel(consumerTag).catch(() => undefined); // closed meanwhile: cancelled, too
        await this.settled(STOP_TIMEOUT_MS);
      }
    }
  }

  /** Resolves when nothing is worked on, or the time is over. */
  async settled(timeoutMs: number): Promise<void> {
    await Promise.race([Promise.allSettled(this.#working), sleep(timeoutMs, undefined, { ref: false })]);
  }

  async #keepBound(session: Session, ended: AbortSignal): Promise<void> {
    const { rebindMs } = this.#config.bus;
    let all = [...this.#bindings.state.values()].every(s => s === 'bound');
    while (!ended.aborted) {
      await sleep(all ? rebindMs * REBIND_FACTOR : rebindMs, undefined, { signal: ended }).catch(() => undefined); // only an abort
      if (!ended.aborted) all = await this.#bindings.bind(session);
    }
  }

  /** Never rejects: what goes wrong ends in the dead letters, or the message goes back to the broker. */
  async #process(message: ConsumeMessage, channel: BusChannel, outlet: Outlet, stop: AbortSignal): Promise<void> {
    this.counters.received++;
    try {
      const verdict = this.#read(message);
      switch (verdict.kind) {
        case 'ignored':
          this.counters.ignored[verdict.reason]++;
          channel.ack(message);
          return;
        case 'invalid':
          await this.#bury(message, channel, outlet, { code: 'SV_MESSAGE', reason: verdict.reason });
          return;
        case 'command':
          await this.#once(message, verdict, channel, outlet, stop);
          return;
        default:
          verdict satisfies never;
      }
    } catch (error) {
      await this.#giveBack(message, channel, error, stop);
    }
  }

  #read(message: ConsumeMessage): Translation & { readonly id?: string | undefined } {
    if (deliveries(message) > MAX_DELIVERIES)
      return { kind: 'invalid', reason: `came more than ${MAX_DELIVERIES} times without an outcome` };
    const decoded = decode(message, this.#config.bus.maxMessage);
    if (!decoded.ok) return { kind: 'invalid', reason: decoded.reason };
    return { ...this.#translate(decoded.inner), id: uniqueId(decoded.inner) };
  }

  /** A message that is known, or being worked on, is not handled again, unless the first time failed. */
  async #once(
    message: ConsumeMessage,
    told: Extract<Translation, { kind: 'command' }> & { readonly id?: string | undefined },
    channel: BusChannel,
    outlet: Outlet,
    stop: AbortSignal,
  ): Promise<void> {
    const earlier = told.id === undefined ? undefined : this.#known.get(told.id);
    if (earlier !== undefined && (await earlier)) {
      this.counters.duplicate++;
      channel.ack(message);
      return;
    }
    const work = this.#carryOut(message, told, channel, outlet, stop);
    const outcome = work.catch(() => false);
    const { id } = told;
    if (id !== undefined) {
      this.#known.set(id, outcome);
      outcome.then(done => {
        if (!done && this.#known.get(id) === outcome) this.#known.delete(id);
      });
    }
    await work;
  }

  /** @returns whether it needs no second time */
  async #carryOut(
    message: ConsumeMessage,
    { command, wildcard, event }: Extract<Translation, { kind: 'command' }>,
    channel: BusChannel,
    outlet: Outlet,
    stop: AbortSignal,
  ): Promise<boolean> {
    const passage = passageOf(message);
    if (this.#isVoid(command, passage.firstSeenMs, passage.attempts)) {
      this.counters.ignored.superseded++;
      channel.ack(message);
      return true;
    }
    this.#note(command);
    const fields = { action: command.action, instance: command.instance.ref, request: command.requestId, event };
    try {
      await this.#handle(command, stop);
      this.counters.handled++;
      channel.ack(message);
      return true;
    } catch (error) {
      if (stop.aborted || isError(error, 'SV_CANCELLED')) throw error;
      const verdict = judge(error, command, {
        wildcard,
        attempts: passage.attempts,
        maxAttempts: this.#config.bus.retry.attempts,
      });
      if (verdict.kind === 'ignore') {
        this.counters.ignored[verdict.reason]++;
        channel.ack(message);
        return true;
      }
      const why = { code: verdict.error.code, reason: reasonText(verdict.error) };
      if (verdict.kind === 'bury') {
        this.#log.error('cannot do what a notification asks', { ...fields, ...why });
        await this.#bury(message, channel, outlet, why);
        return true;
      }
      this.#log.warn('cannot do it now, will try again', { ...fields, ...why, attempt: passage.attempts + 1 });
      await outlet.later(message, why);
      this.counters.retried++;
      channel.ack(message);
      return false;
    }
  }

  async #bury(message: ConsumeMessage, channel: BusChannel, outlet: Outlet, why: Why): Promise<void> {
    await outlet.bury(message, why);
    this.counters.dead++;
    const { exchange, key } = passageOf(message);
    this.#log.warn('dead letter', { ...why, exchange, key, bytes: message.content.length });
    channel.ack(message);
  }

  /** The broker keeps it. Not at once, so that a fault that lasts does not become a loop at full speed. */
  async #giveBack(message: ConsumeMessage, channel: BusChannel, error: unknown, stop: AbortSignal): Promise<void> {
    if (channel.signal.aborted) return; // it has it already
    this.#log.warn('gives a message back to the broker', { error: reason(error) });
    const hurry = AbortSignal.any([channel.signal, stop]);
    await sleep(this.#config.bus.reconnect.minMs, undefined, { signal: hurry }).catch(() => undefined); // ended early, that is all
    if (channel.requeue(message)) this.counters.requeued++;
  }

  #note(command: Command): void {
    const { ref } = command.instance;
    if (command.action === 'detach') this.#undone.set(`${ref}/${command.volumeId ?? ''}`, Date.now());
    if (command.action === 'destroy') this.#undone.set(ref, Date.now());
  }

  /** An attach that waited while its volume was detached, or its instance destroyed: to do it now would bring back what is gone. */
  #isVoid(command: Command, firstSeenMs: number, attempts: number): boolean {
    if (attempts === 0 || command.action === 'detach' || command.action === 'destroy') return false;
    const { ref } = command.instance;
    const volume = command.action === 'attach' ? (command.volumeId ?? '') : undefined;
    const undone = [this.#undone.get(ref), volume === undefined ? undefined : this.#undone.get(`${ref}/${volume}`)];
    return undone.some(at => at !== undefined && at >= firstSeenMs);
  }
}

/** How often a quorum queue gave this message out before; absent at first. */
function deliveries(message: ConsumeMessage): number {
  const count: unknown = message.properties.headers?.['x-delivery-count'];
  return typeof count === 'number' ? count : 0;
}
