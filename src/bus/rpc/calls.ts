/**
 * What is done with one request. At most once, as Python's own server: it is acknowledged before its method is called, so that one that
 * kills us is not called again. So many run at a time, and as many that only look; what comes above that stays with the broker, unacknowledged.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Message } from 'amqplib';
import type { Config } from '../../config/schema.ts';
import { asked, type RequestMessage } from '../../engine/channels.ts';
import { explain } from '../../errors.ts';
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

/** Acknowledges a message. False where it came too late: the broker gives it out again. */
export type Accept = () => boolean;
type Waiting = { readonly message: Message; readonly accept: Accept; readonly since: number };

export class Calls {
  readonly counters: RpcCounters = { received: 0, done: 0, failed: 0, duplicate: 0, malformed: 0, expired: 0 };
  readonly #endpoints: readonly RpcEndpoint[];
  readonly #replies: Replies;
  readonly #log: Log;
  readonly #parallel: number;
  readonly #maxBytes: number;
  readonly #known = new Recent<true>(WINDOW);
  readonly #cut = new AbortController();
  readonly #running = new Set<Promise<void>>();
  /** Of those that run, how many only look. */
  #looking = 0;
  /** Bounded by the prefetch of the channels that they came on. */
  #waiting: Waiting[] = [];

  constructor(config: Config, endpoints: readonly RpcEndpoint[], replies: Replies, log: Log) {
    checkEndpoints(endpoints);
    this.#endpoints = endpoints;
    this.#replies = replies;
    this.#log = log;
    this.#parallel = config.rpc.parallel;
    this.#maxBytes = config.bus.maxMessage;
  }

  get running(): number {
    return this.#running.size;
  }

  /** Takes a message from the broker. */
  take(message: Message, accept: Accept): void {
    this.counters.received++;
    if (this.#hasRoom) this.#begin(message, accept);
    else if (this.#looking < this.#parallel && this.#isQuick(message)) this.#begin(message, accept);
    else this.#waiting.push({ message, accept, since: performance.now() });
  }

  /** Resolves when one more can be begun at once. */
  async room(): Promise<void> {
    while (!this.#hasRoom) await Promise.race(this.#running);
  }

  get #hasRoom(): boolean {
    return this.#running.size - this.#looking < this.#parallel;
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

  #begin(message: Message, accept: Accept): void {
    const decoded = decode(message, this.#maxBytes);
    const parsed = decoded.ok ? parseRequest(decoded.inner) : decoded;
    if (!accept()) return;
    if (!parsed.ok) {
      this.counters.malformed++;
      this.#log.warn('dropped what is no request', { reason: parsed.reason, bytes: message.content.length });
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
    this.#looking += looks;
    this.#running.add(work);
    work.finally(() => {
      this.#running.delete(work);
      this.#looking -= looks;
      this.#next();
    });
  }

  #next(): void {
    while (this.#hasRoom) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      const { message, accept, since } = next;
      if (performance.now() - since <= lifetimeMs(message)) this.#begin(message, accept);
      else if (accept()) this.counters.expired++;
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
      this.#log[error instanceof RemoteError ? 'debug' : 'warn'](`cannot do what a caller asks: ${explain(error)}`, {
        method,
        error: `${told.module}.${told.className}`,
        ...(context.requestId === undefined ? {} : { request_id: context.requestId }),
      });
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
