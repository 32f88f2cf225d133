/** Ended spans on their way to the collector. Whatever becomes of it, nobody waits for it, and it takes no more room than this. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ReadableSpan, SpanExporter, SpanProcessor } from '@opentelemetry/sdk-trace';
import type { Log } from '../log/log.ts';

/** Some 2 MiB. */
const MOST_WAITING = 2048;
/** What is put into JSON at once: about a millisecond. */
const BATCH = 128;
const EVERY_MS = 1000;
/** Between two lines about a collector that is away. */
const TELL_EVERY_MS = 60_000;

export type SpanCounters = { sent: number; dropped: number };

export class SpanQueue implements SpanProcessor {
  /** Since the start. Dropped: no room, or the collector did not take them. */
  readonly counters: SpanCounters = { sent: 0, dropped: 0 };
  readonly #exporter: SpanExporter;
  readonly #log: Log;
  readonly #url: string;
  #waiting: ReadableSpan[] = [];
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  #lastReason = '';
  /** Dropped, and told so. */
  #told = 0;
  #tellAt = 0;
  #underWay = 0;
  /** Takes no more; and has told what was lost. */
  #over = false;
  #closed = false;

  constructor(exporter: SpanExporter, url: string, log: Log) {
    this.#exporter = exporter;
    this.#url = url;
    this.#log = log;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if (this.#over || this.#waiting.length >= MOST_WAITING) {
      this.#drop(1, 'too many wait already');
      return;
    }
    this.#waiting.push(span);
    this.#timer ??= setTimeout(() => {
      this.#sending ??= this.#send();
    }, EVERY_MS).unref();
  }

  async forceFlush(): Promise<void> {
    this.#sending ??= this.#send();
    await this.#sending;
  }

  /** Resolves when all was sent, or the time is over: what is left then is lost. */
  async end(withinMs: number): Promise<void> {
    this.#over = true;
    const waited = new AbortController();
    const late = sleep(withinMs, undefined, { signal: waited.signal }).catch(() => undefined); // sent in time
    await Promise.race([this.forceFlush(), late]);
    waited.abort();
    this.#closed = true;
    this.#drop(this.#waiting.splice(0).length + this.#underWay, 'the agent ended');
    this.#tell(true);
  }

  async shutdown(): Promise<void> {
    await this.#exporter.shutdown();
  }

  /** Until nothing waits. Never rejects. */
  async #send(): Promise<void> {
    clearTimeout(this.#timer);
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, BATCH);
      this.#underWay = batch.length;
      const failure = await exported(this.#exporter, batch);
      if (this.#closed) return;
      this.#underWay = 0;
      if (failure === undefined) this.counters.sent += batch.length;
      else this.#drop(batch.length, failure);
    }
    this.#timer = undefined;
    this.#sending = undefined;
  }

  #drop(count: number, reason: string): void {
    if (count === 0) return;
    this.counters.dropped += count;
    this.#lastReason = reason;
    this.#tell(false);
  }

  #tell(now: boolean): void {
    const dropped = this.counters.dropped - this.#told;
    if (dropped === 0 || (!now && performance.now() < this.#tellAt)) return;
    this.#tellAt = performance.now() + TELL_EVERY_MS;
    this.#told = this.counters.dropped;
    this.#log.warn('spans of traces were dropped', { dropped, reason: this.#lastReason, collector: this.#url });
  }
}

/** Undefined where the collector has them, else why not: never what it answered, nor what it was sent. */
async function exported(exporter: SpanExporter, spans: ReadableSpan[]): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  try {
    exporter.export(spans, ({ code, error }) => resolve(code === 0 ? undefined : reasonOf(error)));
  } catch (error) {
    resolve(reasonOf(error));
  }
  return await promise;
}

function reasonOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return 'it was not sent';
  if ('code' in error && typeof error.code === 'number') return `HTTP status ${error.code}`;
  if ('code' in error && typeof error.code === 'string') return error.code;
  return 'message' in error && error.message === 'Request timed out' ? 'it does not answer' : 'it was not sent';
}
