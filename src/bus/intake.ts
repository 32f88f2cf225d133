/**
 * What is done with one message. It is acknowledged when its outcome is known and kept: carried out (the journal has it), not for us, given
 * to the dead letters, or put aside for later. None waits behind another.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumeMessage } from 'amqplib';
import type { Config } from '../config/schema.ts';
import { asked, openstackRequestId, type RequestMessage } from '../engine/channels.ts';
import type { Command } from '../engine/model.ts';
import { CODES, isError } from '../errors.ts';
import { uniqueId } from '../events/notification.ts';
import { isNoise } from '../events/peek.ts';
import { isActing, type Translation, type Translator, translator } from '../events/translate.ts';
import { LimitedLines } from '../log/limit.ts';
import type { Log } from '../log/log.ts';
import type { BusChannel } from './channel.ts';
import { type Counters, newCounters } from './counters.ts';
import { decode } from './envelope.ts';
import { giveBack } from './give-back.ts';
import { type Outlet, type Passage, passageOf, type Why } from './outlet.ts';
import { Recent } from './recent.ts';
import { judge, reasonText, type Verdict } from './verdict.ts';
import { watchedNotification, watchedVerdict } from './watched.ts';
import { Wishes } from './wishes.ts';

/** Carries a command out; see BusServiceOptions.handle. `isFinal`: whether a failure is the outcome, neither tried again nor ignored. */
export type Handler = (command: Command, signal: AbortSignal, isFinal: (error: unknown) => boolean) => Promise<void>;

/** Where a message came from, and how to be rid of it. */
export type Desk = { readonly channel: BusChannel; readonly outlet: Outlet; readonly stop: AbortSignal };

type Told = Extract<Translation, { kind: 'command' }>;
type Wanted = Exclude<Translation, { kind: 'ignored' }>;
type Read = { readonly translation: Translation; readonly id?: string | undefined; readonly inner?: unknown };
type Facts = Omit<Read, 'translation'>;

/** Messages that are remembered, to know them again. */
const WINDOW = 10_000;
/** Lines a minute about what was asked properly and did not work: they are what is looked for. */
const MOST_FAILURES = 200;
/** A message that came this often without an outcome may be what kills us. */
const MAX_DELIVERIES = 20;

export class Intake {
  readonly counters: Counters = newCounters();
  readonly #config: Config['bus'];
  readonly #handle: Handler;
  readonly #log: Log;
  readonly #buried: LimitedLines;
  readonly #failures: LimitedLines;
  readonly #retries: LimitedLines;
  readonly #translate: Translator;
  readonly #cut = new AbortController();
  /** Outcome of commands by the message's id; a redelivery or a second topic waits for the first one. */
  readonly #known = new Recent<Promise<boolean>>(WINDOW);
  readonly #wishes = new Wishes(WINDOW);
  readonly #working = new Set<Promise<void>>();

  constructor(config: Config, handle: Handler, log: Log) {
    this.#config = config.bus;
    this.#handle = handle;
    this.#log = log;
    this.#buried = new LimitedLines(log, 'warn');
    this.#failures = new LimitedLines(log, 'error', { most: MOST_FAILURES });
    this.#retries = new LimitedLines(log, 'warn', { most: MOST_FAILURES });
    this.#translate = translator(config.bindings, config.host);
  }

  /** The number of messages that are worked on now. */
  get working(): number {
    return this.#working.size;
  }

  /** Handles a message from here to its end. Up to the handler it is synchronous, so that handlers are called in order of delivery. */
  take(message: ConsumeMessage, desk: Desk): void {
    this.counters.received++;
    if (message.fields.redelivered) this.counters.redelivered++;
    if (this.#isNoise(message)) {
      this.counters.ignored['other-event']++;
      desk.channel.pass(message);
      return;
    }
    const work = this.#begin(message, desk);
    if (work === undefined) return;
    this.#working.add(work);
    work.finally(() => this.#working.delete(work));
  }

  /** undefined: it was done with at once. */
  #begin(message: ConsumeMessage, desk: Desk): Promise<void> | undefined {
    try {
      const { translation, ...facts } = this.#read(message);
      if (translation.kind !== 'ignored') return this.#process(message, desk, translation, facts);
      this.counters.ignored[translation.reason]++;
      desk.channel.pass(message);
      return undefined;
    } catch (error) {
      return this.#giveBack(message, desk, error);
    }
  }

  #isNoise({ content, properties }: ConsumeMessage): boolean {
    const readable = properties.contentType === 'application/json' && content.length <= this.#config.maxMessage;
    return readable && isNoise(content, isActing);
  }

  /** Resolves when nothing is worked on, or the time is over. */
  async settled(timeoutMs: number): Promise<void> {
    await Promise.race([Promise.allSettled(this.#working), sleep(timeoutMs, undefined, { ref: false })]);
  }

  /** Tells the handlers to stop, instead of waiting for them. */
  cut(): void {
    this.#cut.abort();
  }

  /** Never rejects: what goes wrong ends in the dead letters, or the message goes back to the broker. */
  async #process(message: ConsumeMessage, desk: Desk, translation: Wanted, facts: Facts): Promise<void> {
    try {
      if (translation.kind === 'command') await this.#once(message, desk, translation, facts);
      else await this.#bury(message, desk, { code: 'SV_MESSAGE', reason: translation.reason });
    } catch (error) {
      await this.#giveBack(message, desk, error);
    }
  }

  #read(message: ConsumeMessage): Read {
    if (deliveries(message) > MAX_DELIVERIES)
      return { translation: { kind: 'invalid', reason: `came more than ${MAX_DELIVERIES} times without an outcome` } };
    const decoded = decode(message, this.#config.maxMessage);
    if (!decoded.ok) return { translation: { kind: 'invalid', reason: decoded.reason } };
    const { inner } = decoded;
    return { translation: this.#translate(inner), id: uniqueId(inner), inner };
  }

  /** A message that is known, or being worked on, is not handled again, unless the first time failed. */
  async #once(message: ConsumeMessage, desk: Desk, told: Told, { id, inner }: Facts): Promise<void> {
    const earlier = id === undefined ? undefined : this.#known.get(id);
    if (earlier !== undefined && (await earlier)) {
      this.counters.duplicate++;
      desk.channel.ack(message);
      return;
    }
    const work = asked(
      () => watchedNotification(message, told, id, inner),
      request => this.#carryOut(message, desk, told, request),
    );
    if (id !== undefined) {
      const outcome = work.catch(() => false);
      this.#known.set(id, outcome);
      outcome.then(done => {
        if (!done && this.#known.get(id) === outcome) this.#known.delete(id);
      });
    }
    await work;
  }

  /** @returns whether it needs no second time */
  async #carryOut(message: ConsumeMessage, desk: Desk, told: Told, request?: RequestMessage): Promise<boolean> {
    const passage = passageOf(message);
    const { command } = told;
    if (passage.firstSeenMs !== undefined && this.#wishes.isVoid(command, passage.firstSeenMs)) {
      this.counters.ignored.superseded++;
      if (request) request.outcome = 'superseded';
      desk.channel.ack(message);
      return true;
    }
    const firstSeenMs = passage.firstSeenMs ?? this.#wishes.note(command);
    const verdict = (error: unknown) => this.#judge(error, told, passage);
    try {
      const isFinal = (error: unknown) => verdict(error).kind === 'bury';
      await this.#handle(numbered(command, passage), this.#cut.signal, isFinal);
    } catch (error) {
      if (this.#cut.signal.aborted || isError(error, 'SV_CANCELLED')) throw error;
      const judged = verdict(error);
      if (request) Object.assign(request, watchedVerdict(judged));
      return await this.#failed(judged, message, desk, told, firstSeenMs);
    }
    this.counters.handled++;
    desk.channel.ack(message);
    return true;
  }

  #judge(error: unknown, { command, wildcard }: Told, { attempts }: Passage): Verdict {
    return judge(error, command, { wildcard, attempts, maxAttempts: this.#config.retry.attempts });
  }

  async #failed(
    verdict: Verdict,
    message: ConsumeMessage,
    desk: Desk,
    { command, event }: Told,
    firstSeenMs: number,
  ): Promise<boolean> {
    if (verdict.kind === 'ignore') {
      this.counters.ignored[verdict.reason]++;
      desk.channel.ack(message);
      return true;
    }
    const why = { code: verdict.error.code, reason: reasonText(verdict.error) };
    const fields = {
      action: command.action,
      instance: command.instance.ref,
      request_id: openstackRequestId(command.requestId),
      event,
      ...why,
    };
    if (verdict.kind === 'bury') {
      this.#failures.say('cannot do what a notification asks', fields);
      await this.#bury(message, desk, why);
      return true;
    }
    this.#retries.say('cannot do it now, will try again', { ...fields, attempt: passageOf(message).attempts + 1 });
    await desk.outlet.later(message, why, firstSeenMs);
    this.counters.retried++;
    desk.channel.ack(message);
    return false;
  }

  async #bury(message: ConsumeMessage, desk: Desk, why: Why): Promise<void> {
    await desk.outlet.bury(message, why);
    this.counters.dead++;
    const { exchange, key } = passageOf(message);
    this.#buried.say('dead letter', { ...why, exchange, key, bytes: message.content.length });
    desk.channel.ack(message);
  }

  async #giveBack(message: ConsumeMessage, desk: Desk, error: unknown): Promise<void> {
    const how = { waitMs: this.#config.reconnect.minMs, log: this.#log };
    if (await giveBack(message, desk, error, how)) this.counters.requeued++;
  }
}

/**
 * A later try after a failure that the engine holds for final (an instance that is not there) is another request: under the same id it
 * would get the answer of the first. One whose failure may pass keeps its id.
 */
function numbered(command: Command, { attempts, code }: Passage): Command {
  const final = attempts > 0 && code !== undefined && !CODES[code].retry;
  return final && command.requestId !== undefined
    ? { ...command, requestId: `${command.requestId}#${attempts}` }
    : command;
}

/** How often a quorum queue gave this message out before; absent at first. */
function deliveries(message: ConsumeMessage): number {
  const count: unknown = message.properties.headers?.['x-delivery-count'];
  return typeof count === 'number' ? count : 0;
}
