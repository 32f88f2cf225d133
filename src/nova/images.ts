/** A Glance image becomes a template of this host once, however many instances are booted from it at the same time. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isError, ShiftvolError } from '../errors.ts';
import type { Images } from './ports.ts';

/** How often it is looked whether another process's import is done. */
const LOOK_MS = 500;

export type ReadyTemplate = { readonly template: string; readonly sizeBytes: number };

/**
 * The templates of Glance's images, each named after its image's id. An import that died leaves nothing that has a name, so that what is
 * there is whole.
 */
export class ImageTemplates {
  readonly #images: Images;
  readonly #flights = new Map<string, Promise<ReadyTemplate>>();
  readonly #lookMs: number;

  constructor(images: Images, lookMs = LOOK_MS) {
    this.#images = images;
    this.#lookMs = lookMs;
  }

  /**
   * The one that is there, or that is being imported, or a new one. All who wait get the same error; the next to ask starts anew.
   * `signal`: of the agent, not of a caller that others share the import with.
   */
  async ready(imageId: string, signal: AbortSignal): Promise<ReadyTemplate> {
    const there = this.#find(imageId);
    if (there) return there;
    const running = this.#flights.get(imageId);
    if (running) return await running;
    const flight = this.#import(imageId, signal).finally(() => this.#flights.delete(imageId));
    this.#flights.set(imageId, flight);
    return await flight;
  }

  #find(imageId: string): ReadyTemplate | undefined {
    const found = this.#images.find(imageId);
    return found && { template: imageId, sizeBytes: found.sizeBytes };
  }

  /** A command line beside the agent may import the same image: then it is waited for. */
  async #import(imageId: string, signal: AbortSignal): Promise<ReadyTemplate> {
    for (;;) {
      const failure = await this.#images.import(imageId, imageId, signal).then(
        () => undefined,
        (error: unknown) => error,
      );
      const ready = this.#find(imageId);
      if (ready) return ready;
      // Also where there is one of this name, and it cannot be used: that does not change by itself.
      if (!isError(failure, 'SV_LOCKED')) throw failure ?? nowhere(imageId);
      await sleep(this.#lookMs, undefined, { signal });
    }
  }
}

function nowhere(imageId: string): ShiftvolError {
  return new ShiftvolError('SV_INTERNAL', `Cannot find the template of image ${imageId}, which was imported`);
}
