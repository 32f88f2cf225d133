/** The agent's own recover: at its start, and now and then for what stood in the way. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Engine } from '../engine/engine.ts';
import { leftoverText } from '../engine/recover.ts';
import { explain } from '../errors.ts';
import type { Log } from '../log/log.ts';

/** For a removal that waits for somebody else to let go, and an undo that failed. */
const RETRY_MS = 30_000;
/** For a volume that could not be mounted again: each try may keep its tools for a minute. In retries. */
const LEFT_EVERY = 10;
/** How long the agent answers nobody, and the runtime is not started, for it. Storage that is away must not keep all the others waiting for ever. */
const FIRST_MS = 60_000;

export type RecoveryOptions = { readonly retryMs?: number; readonly firstMs?: number };

/** One at a time. Disposing of it cuts what is under way, and waits for that. */
export class Recovery implements AsyncDisposable {
  readonly #engine: Pick<Engine, 'recover' | 'list'>;
  readonly #log: Log;
  readonly #firstMs: number;
  readonly #stop = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> | undefined;
  /** Whether the last one left something that is attached and not mounted. */
  #left = false;
  #tries = 0;

  constructor(engine: Pick<Engine, 'recover' | 'list'>, log: Log, options: RecoveryOptions = {}) {
    this.#engine = engine;
    this.#log = log;
    this.#firstMs = options.firstMs ?? FIRST_MS;
    this.#timer = setInterval(() => this.#retry(), options.retryMs ?? RETRY_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#stop.abort();
    await this.#running?.catch(() => undefined); // cut, or told below
  }

  /** Whether it has ended; else it goes on while the agent works already: what a command is about is ended before it. @throws what it threw */
  async first(): Promise<boolean> {
    const over = new AbortController();
    const tooLong = sleep(this.#firstMs, false, { signal: over.signal }).catch(() => false);
    const running = this.#run();
    try {
      if (await Promise.race([running.then(() => true), tooLong])) return true;
    } finally {
      over.abort();
    }
    this.#log.warn('recover still waits for something; commands are taken meanwhile');
    this.#tell(running);
    return false;
  }

  #retry(): void {
    const isOpen = this.#engine.list().some(({ status }) => status.state === 'detaching' || status.state === 'undoing');
    const isTime = this.#left && ++this.#tries % LEFT_EVERY === 0;
    if (this.#running === undefined && (isOpen || isTime)) this.#tell(this.#run());
  }

  #tell(running: Promise<void>): void {
    running.catch(error => this.#log.error(`recover: ${explain(error)}`));
  }

  #run(): Promise<void> {
    const running = this.#recover().finally(() => {
      this.#running = undefined;
    });
    this.#running = running;
    return running;
  }

  async #recover(): Promise<void> {
    const log = this.#log;
    const found = await this.#engine.recover({ dryRun: false, signal: this.#stop.signal });
    if (this.#stop.signal.aborted) return;
    for (const { task, did, error, ...facts } of found.tasks) {
      if (error) log.warn(`recover: ${task}: ${error.message}`, facts);
      else log.info(`recover: ${task} ${did}`, facts);
    }
    for (const { attachment, instance, target, was, did, error } of found.attachments) {
      const facts = { instance, attachment, target, was };
      if (error) log.warn(`recover left it: ${error.message}`, facts);
      else log.info(`recover: ${did}`, facts);
    }
    for (const leftover of found.leftovers) log.warn(leftoverText(leftover));
    this.#left = found.attachments.some(({ was, did }) => was === 'attached' && did === 'left');
  }
}
