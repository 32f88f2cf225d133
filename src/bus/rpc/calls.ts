/**
 * What is done with one request. At most once, as Python's own server: it is acknowledged before its method is called, so that one that
 * kills us is not called again. So many run at a time, and as many that only look; what comes above that stays with the broker, unacknowledged.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Message } from 'amqplib';
import type { Config } from '../../config/schema.ts';
import { asked, type RequestMessage } from '../../engine/channels.ts';
import { explain } from '../../errors.ts';
import { LimitedLines } from '../../log/limit.ts';
import type { Log } from '../../log/log.ts';
import { decode } from '../envelope.ts';
import { Recent } from '../recent.ts';
import { watchedCall } from '../watched.ts';
import { checkEndpoints, findMethod } from './dispatch.ts';
import { RemoteError, type RpcEndpoint } from './endpoint.ts';
import { failureOf, remoteErrorOf } from './failure.ts';
import type { Replies, Reply } from './replies.ts';
import { parseRequest, type RpcRequest } from './request.ts';

/** Requests that are remembered, to know them again. */
const WINDOW = 10_000;

/** What became of requests since the start. */
export type RpcCounters = {
  /** All that the broker gave us, redeliveries included. */
  received: number;
  /** Methods that came to a result, and that threw. */
  done: number;
  failed: number;
  duplicate: number;
  /** No request: dropped. */
  malformed: number;
  /** Waited here until their callers had given up. */
  expired: number;
};

/** What only looks is small. */
const QUICK_BYTES = 64 * 1024;

/**
 * What requests that run or wait may hold of our memory. Prefetch counts messages, and so many of the largest size would be gigabytes:
 * of one that comes above it only its place is kept, and at its turn it goes back to its queue, to be given out again.
 */
const MAX_HELD_BYTES = 64 * 2 ** 20;

/** What a message is to the broker; without the bytes. */
export type Place = {
  /** Acknowledges it. False where it came too late: the broker gives it out again. */
  accept(): boolean;
  /** Absent where the broker has forgotten it. */
  giveBack?(): void;
};
type Waiting = { readonly message?: Message; readonly bytes: number; readonly place: Place; readonly since: number };

export class Calls {
  readonly counters: RpcCounters = { received: 0, done: 0, failed: 0, duplicate: 0, malformed: 0, expired: 0 };
  readonly #endpoints: readonly RpcEndpoint[];
  readonly #replies: Replies;
  readonly #log: Log;
  readonly #malformed: LimitedLines;
  readonly #refused: LimitedLines;
  readonly #parallel: number;
  readonly #maxBytes: number;
  readonly #known = new Recent<true>(WINDOW);
  readonly #cut = new AbortController();
  readonly #running = new Set<Promise<void>>();
  /** Of those that run, how many only look. */
  #looking = 0;
  /** Bounded by the prefetch of the channels that they came on. */
  #waiting: Waiting[] = [];
  readonly #maxHeldBytes: number;
  /** Of those that run, and of those that wait whole. */
  #heldBytes = 0;

  constructor(
    config: Config,
    endpoints: readonly RpcEndpoint[],
    replies: Replies,
    log: Log,
    maxHeldBytes = MAX_HELD_BYTES,
  ) {
    checkEndpoints(endpoints);
    this.#endpoints = endpoints;
    this.#replies = replies;
    this.#log = log;
    this.#malformed = new LimitedLines(log, 'warn');
    this.#refused = new LimitedLines(log, 'warn');
    this.#parallel = config.rpc.parallel;
    this.#maxBytes = config.bus.maxMessage;
    this.#maxHeldBytes = maxHeldBytes;
  }

  get running(): number {
    return this.#running.size;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Takes a message from the broker. */
  take(message: Message, place: Place): void {
    this.counters.received++;
    const bytes = message.content.length;
    if (this.#hasRoom && this.#fits(bytes)) this.#begin(message, place);
    else if (this.#looking < this.#parallel && this.#isQuick(message)) this.#begin(message, place);
    else this.#wait({ message, bytes, place, since: performance.now() });
  }

  #wait({ message, ...place }: Waiting): void {
    const whole = this.#fits(place.bytes) || !place.place.giveBack;
    this.#waiting.push(whole && message ? { message, ...place } : place);
    if (whole) this.#heldBytes += place.bytes;
  }

  /** Resolves when one more can be begun at once. */
  async room(): Promise<void> {
    while (!this.#hasRoom || !this.#fits(0)) await Promise.race(this.#running);
  }

  get #hasRoom(): boolean {
    return this.#running.size - this.#looking < this.#parallel;
  }

  /** One may be as large as it wants. */
  #fits(bytes: number): boolean {
    return this.#heldBytes === 0 || this.#heldBytes + bytes <= this.#maxHeldBytes;
  }

  /** Read once more when it is begun: so it is asked only where there is no room. */
  #isQuick(message: Message): boolean {
    if (message.content.length > QUICK_BYTES) return false;
    const decoded = decode(message, QUICK_BYTES);
    const parsed = decoded.ok ? parseRequest(decoded.inner) : decoded;
    return parsed.ok && this.#onlyLooks(parsed.value);
  }

  #onlyLooks({ namespace, method }: RpcRequest): boolean {
    return this.#endpoints.some(e => e.namespace === namespace && e.quick?.has(method) === true);
  }

  /** Those that wait go back to the broker with the channel that they came on. */
  release(): void {
    for (const { message, bytes } of this.#waiting) if (message) this.#heldBytes -= bytes;
    this.#waiting = [];
  }

  /** Resolves when nothing runs, or the time is over. */
  async settled(timeoutMs: number): Promise<void> {
    await Promise.race([Promise.allSettled(this.#running), sleep(timeoutMs, undefined, { ref: false })]);
  }

  /** Tells the methods to stop, instead of waiting for them. */
  cut(): void {
    this.#cut.abort();
  }

  #begin(message: Message, place: Place): void {
    const decoded = decode(message, this.#maxBytes);
    const parsed = decoded.ok ? parseRequest(decoded.inner) : decoded;
    if (!place.accept()) return;
    if (!parsed.ok) {
      this.counters.malformed++;
      this.#malformed.say('dropped what is no request', { reason: parsed.reason, bytes: message.content.length });
      return;
    }
    const { uniqueId } = parsed.value;
    if (uniqueId !== undefined) {
      if (this.#known.get(uniqueId)) {
        this.counters.duplicate++;
        return;
      }
      this.#known.set(uniqueId, true);
    }
    const looks = this.#onlyLooks(parsed.value) ? 1 : 0;
    // What only looks comes every minute for each instance: nobody has to watch that.
    const work =
      looks > 0
        ? this.#carryOut(parsed.value)
        : asked(
            () => watchedCall(message, parsed.value),
            watched => this.#carryOut(parsed.value, watched),
          );
    const bytes = message.content.length;
    this.#looking += looks;
    this.#heldBytes += bytes;
    this.#running.add(work);
    work.finally(() => {
      this.#running.delete(work);
      this.#heldBytes -= bytes;
      this.#looking -= looks;
      this.#next();
    });
  }

  #next(): void {
    let [given, givenBytes] = [0, 0];
    for (;;) {
      const [next] = this.#waiting;
      if (next === undefined) return;
      const { message, bytes, place, since } = next;
      const isIdle = this.#running.size === 0;
      const hasRoom = this.#running.size - this.#looking + given < this.#parallel;
      // What goes back may be taken by another host: where nothing runs here nobody would come by for the others.
      if (!isIdle && !(hasRoom && (message || this.#fits(givenBytes + bytes)))) return;
      this.#waiting.shift();
      if (!message) {
        [given, givenBytes] = [given + 1, givenBytes + bytes];
        place.giveBack?.();
        continue;
      }
      this.#heldBytes -= bytes;
      if (performance.now() - since <= lifetimeMs(message)) this.#begin(message, place);
      else if (place.accept()) this.counters.expired++;
    }
  }

  /** Never rejects. */
  async #carryOut(request: RpcRequest, watched?: RequestMessage): Promise<void> {
    const { reply: to, monitorS } = request;
    const heartbeats =
      to && monitorS !== undefined ? setInterval(() => this.#replies.heartbeat(to), monitorS * 500) : undefined;
    try {
      await this.#answer(request, watched);
    } finally {
      clearInterval(heartbeats);
    }
  }

  async #answer(request: RpcRequest, watched?: RequestMessage): Promise<void> {
    const { method, args, context, reply: to } = request;
    try {
      const call = { method, ...context, signal: this.#cut.signal };
      const result = await findMethod(this.#endpoints, request)(args, call);
      if (to) this.#replies.send(to, { result });
      this.counters.done++;
    } catch (error) {
      this.counters.failed++;
      if (watched) watched.failure = error;
      const told = remoteErrorOf(error, method);
      // Whoever answers with an error of the caller's own world has told of it himself.
      const facts = {
        method,
        error: `${told.module}.${told.className}`,
        ...(context.requestId === undefined ? {} : { request_id: context.requestId }),
      };
      const text = `cannot do what a caller asks: ${explain(error)}`;
      if (error instanceof RemoteError) this.#log.debug(text, facts);
      else this.#refused.say(text, facts);
      if (to) this.#tell(to, told);
    }
  }

  #tell(to: NonNullable<RpcRequest['reply']>, error: RemoteError): void {
    const reply = (failure: RemoteError): Reply => ({ failure: failureOf(failure) });
    try {
      this.#replies.send(to, reply(error));
    } catch {
      // Its arguments are no JSON, or too large: the class and the text are what counts.
      const { className, module, message } = error;
      this.#replies.send(to, reply(new RemoteError(className, message.slice(0, 1000), { module })));
    }
  }
}

/** How long its caller waits for it, in milliseconds. Runs anew here; the broker has counted until it gave the message to us. */
function lifetimeMs(message: Message): number {
  const text: unknown = message.properties.expiration;
  return typeof text === 'string' && /^\d{1,12}$/.test(text) ? Number(text) : Number.POSITIVE_INFINITY;
}
