/**
 * One kind of line that others can cause as many of as they like (whoever may publish to our queue): the first ones of a minute are written, the
 * others counted, and the count is written when the minute is over.
 */
import type { Log, LogLevel } from './log.ts';

export type LimitOptions = { readonly most?: number; readonly perMs?: number };

const MOST = 20;
const PER_MS = 60_000;

export class LimitedLines {
  readonly #log: Log;
  readonly #level: LogLevel;
  readonly #most: number;
  readonly #perMs: number;
  #written = 0;
  #suppressed = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(log: Log, level: LogLevel, { most = MOST, perMs = PER_MS }: LimitOptions = {}) {
    this.#log = log;
    this.#level = level;
    this.#most = most;
    this.#perMs = perMs;
  }

  say(text: string, facts: object): void {
    this.#timer ??= setTimeout(() => this.#over(text), this.#perMs).unref();
    if (this.#written < this.#most) {
      this.#written++;
      this.#log[this.#level](text, facts);
    } else this.#suppressed++;
  }

  #over(like: string): void {
    const suppressed = this.#suppressed;
    this.#timer = undefined;
    this.#written = 0;
    this.#suppressed = 0;
    if (suppressed > 0) this.#log[this.#level]('more such lines were not written', { like, suppressed });
  }
}
