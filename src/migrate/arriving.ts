/** The destination's half of a first pass: fetched while the instance still runs on the other host, and kept for its last pass. */
import { explain, isError } from '../errors.ts';
import { arrived, endOffer, fetchVolume, type Told } from './fetch.ts';
import { Incoming, type Pool } from './incoming.ts';

export type ArrivingDeps = {
  readonly pool: Pool;
  readonly ca: string | undefined;
  readonly log: { info(text: string, facts?: object): void; warn(text: string, facts?: object): void };
};
type Running = { readonly stop: AbortController; readonly ended: Promise<void> };

export class Arriving {
  readonly #deps: ArrivingDeps;
  readonly #running = new Map<string, Running>();

  constructor(deps: ArrivingDeps) {
    this.#deps = deps;
  }

  /** Never rejects: without it the last pass brings all. The other host is told how it ended, so that it does not wait. */
  async fetch(told: Told, signal: AbortSignal): Promise<void> {
    await this.stop(told.attachment);
    const stop = new AbortController();
    const ended = this.#fetch(told, AbortSignal.any([stop.signal, signal]));
    const running = { stop, ended };
    this.#running.set(told.attachment, running);
    await ended;
    if (this.#running.get(told.attachment) === running) this.#running.delete(told.attachment);
  }

  /** The last pass is about to come, or none. */
  async stop(attachment: string): Promise<void> {
    const running = this.#running.get(attachment);
    running?.stop.abort();
    await running?.ended;
  }

  /** There is no last pass. What another process holds, or has not come, is left. */
  async forget(attachment: string): Promise<void> {
    await this.stop(attachment);
    try {
      using incoming = Incoming.open(this.#deps.pool, attachment);
      incoming.remove();
    } catch (error) {
      if (!isError(error, 'SV_LOCKED')) throw error;
    }
  }

  async #fetch(told: Told, signal: AbortSignal): Promise<void> {
    const { pool, ca, log } = this.#deps;
    const about = { attachment: told.attachment };
    const began = performance.now();
    const trusted = ca === undefined ? {} : { ca };
    const onRetry = (error: unknown) => log.warn(`the first pass was cut off, it goes on: ${explain(error)}`, about);
    try {
      using incoming = Incoming.open(pool, told.attachment);
      await fetchVolume(pool, incoming, told, { signal, onRetry, ...trusted });
      await arrived(told, { signal, ...trusted });
      log.info('the first pass of a root has arrived', { ...about, ms: Math.round(performance.now() - began) });
    } catch (error) {
      log.warn(`the first pass of a root did not arrive: ${explain(error)}`, about);
      if (!signal.aborted)
        await endOffer(told, { signal, ...trusted }).catch((e: unknown) => log.warn(explain(e), about));
    }
  }
}
