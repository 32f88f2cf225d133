import type { InstanceKey } from './model.ts';

/**
 * One at a time and in order for each key, `parallel` at once over all keys. Bounded: what waits holds a place in its key's line only.
 */
export class KeyedQueue {
  readonly #tails = new Map<string, Promise<void>>();
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(parallel: number) {
    this.#free = parallel;
  }

  /** Runs `work` when all earlier work of this key has ended, however it ended. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key);
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    this.#tails.set(key, ended);
    try {
      await before;
      return await this.#bounded(work);
    } finally {
      if (this.#tails.get(key) === ended) this.#tails.delete(key);
      end();
    }
  }

  /** How many keys have work. */
  get size(): number {
    return this.#tails.size;
  }

  async #bounded<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>(resolve => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}

/** Does the work when all that came before it for this instance has ended. */
export type InOrder = <T>(key: InstanceKey, work: () => Promise<T>) => Promise<T>;
