import { closeSync, fdatasync, openSync } from 'node:fs';
import { promisify } from 'node:util';

const fdatasyncAsync = promisify(fdatasync);
const DONE = Promise.resolve();

/**
 * Brings what was written to a file to the disk, on libuv's pool: the event loop goes on, and all who wait while one sync runs share the
 * next. After a failure every flush fails: the kernel may have dropped the pages, and a later sync would not say so (fsync(2), EIO).
 */
export class Flusher implements Disposable {
  readonly #file: number;
  #clean = true;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #failure: unknown;

  /** The file must stay the same one; another's descriptor of it does as well for a sync. */
  constructor(path: string) {
    this.#file = openSync(path, 'r');
  }

  /** Of the sync that failed, after which all do. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Something was written. */
  note(): void {
    this.#clean = false;
  }

  /** Resolves when all that was written before this call is on the disk. One that nobody waits for may fail in silence. */
  flush(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#clean) return this.#running ?? DONE;
    if (this.#running === undefined) return this.#begin();
    // The one that runs began before the last write, and may not have it.
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      return this.#running ?? this.#begin();
    });
    this.#next.catch(() => undefined);
    return this.#next;
  }

  /** The descriptor is closed when no sync uses it any more. */
  [Symbol.dispose](): void {
    const close = () => closeSync(this.#file);
    if (this.#running) this.#running.then(close, close);
    else close();
  }

  #begin(): Promise<void> {
    this.#clean = true;
    this.#running = this.#sync().finally(() => {
      this.#running = undefined;
    });
    this.#running.catch(() => undefined);
    return this.#running;
  }

  async #sync(): Promise<void> {
    try {
      await fdatasyncAsync(this.#file);
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }
}
