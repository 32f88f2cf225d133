import { isDeepStrictEqual } from 'node:util';
import type { Backend, BlockDevice, Mounter, Template } from './ports.ts';

type Spare = { readonly path: string; readonly device: BlockDevice };
/** What is ready of one template. */
type Shelf = { readonly template: Template; readonly ready: Spare[]; readonly unused: NodeJS.Timeout };

export type SparesOptions = {
  readonly backend: Backend;
  readonly mounter: Mounter;
  /** Of each template that is in use. */
  readonly count: number;
  /** One could not be made or taken away: attaches do without, and it is tried again after the next. */
  readonly onError: (error: unknown, template: string) => void;
  /** How long a template that nobody asks for keeps its spares, in milliseconds. */
  readonly keepMs?: number;
};

/** No spare is made while commands come one after the other, unless they do so for too long. In milliseconds. */
const QUIET_MS = 20;
const PATIENCE_MS = 250;
const KEEP_MS = 600_000;
/** Each spare has a loop device and a superblock. */
const MAX_TEMPLATES = 16;

/**
 * Snapshots that are ready before anybody asks: cloned, with a device, mounted where nobody sees them. What is left of an attach is to give the
 * mount its map and its place. They belong to this process: the kernel takes mounts and devices away with it, and `recover` the files.
 */
export class Spares implements AsyncDisposable {
  readonly #options: SparesOptions;
  /** The one asked for last comes last. */
  readonly #shelves = new Map<string, Shelf>();
  /** By snapshot, until they are mounted: a step that is done twice gets the same one. */
  readonly #given = new Map<string, BlockDevice>();
  readonly #ending = new AbortController();
  #askedAt = 0;
  #missedAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #making: Promise<void> = Promise.resolve();

  constructor(options: SparesOptions) {
    this.#options = options;
  }

  /** One of exactly this template, under the name of the snapshot from now on; undefined where none is ready. Has another one made. */
  take(template: Template, snapshot: string): BlockDevice | undefined {
    const known = this.#given.get(snapshot);
    if (known) return known;
    const { ready } = this.#shelfOf(template);
    this.#askedAt = performance.now();
    this.#makeSoon();
    const spare = ready.shift();
    if (!spare) return undefined;
    if (!this.#options.backend.spares.give(spare.path, snapshot)) {
      void this.#discard([spare], template.name);
      return undefined;
    }
    this.#given.set(snapshot, spare.device);
    return spare.device;
  }

  /** How many are ready, of all templates. */
  get size(): number {
    return [...this.#shelves.values()].reduce((sum, { ready }) => sum + ready.length, 0);
  }

  /** It is mounted: its device is the attach's alone. */
  mounted(snapshot: string): void {
    this.#given.delete(snapshot);
  }

  /** It will not be mounted: lets go of its device. None is success. */
  async drop(snapshot: string): Promise<void> {
    const device = this.#given.get(snapshot);
    this.#given.delete(snapshot);
    await device?.[Symbol.asyncDispose]();
  }

  /** Resolves when nothing is missing any more, or could be made. For measurements and tests. */
  async ready(): Promise<void> {
    while (this.#timer !== undefined) await this.#makeNow();
  }

  /** Takes away all that was not given. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#making;
    for (const name of [...this.#shelves.keys()]) await this.#clear(name);
  }

  #shelfOf(template: Template): Shelf {
    const { name } = template;
    const there = this.#shelves.get(name);
    const isSame = there && (there.template === template || isDeepStrictEqual(there.template, template));
    // Another one of this name: what there is of the old one is of no use any more.
    if (there && !isSame) void this.#clear(name);
    const shelf = isSame ? there : this.#newShelf(template);
    shelf.unused.refresh();
    this.#shelves.delete(name);
    this.#shelves.set(name, shelf);
    const [oldest] = this.#shelves.keys();
    if (oldest !== undefined && this.#shelves.size > MAX_TEMPLATES) void this.#clear(oldest);
    return shelf;
  }

  #newShelf(template: Template): Shelf {
    const unused = setTimeout(() => this.#clear(template.name), this.#options.keepMs ?? KEEP_MS).unref();
    return { template, ready: [], unused };
  }

  #makeSoon(): void {
    if (this.#timer !== undefined || this.#ending.signal.aborted) return;
    this.#missedAt = performance.now();
    this.#timer = setTimeout(() => this.#makeInPause(), QUIET_MS).unref();
  }

  #makeInPause(): void {
    const now = performance.now();
    const quietMs = now - this.#askedAt;
    if (quietMs >= QUIET_MS || now - this.#missedAt > PATIENCE_MS) void this.#makeNow();
    else this.#timer = setTimeout(() => this.#makeInPause(), QUIET_MS - quietMs).unref();
  }

  async #makeNow(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#making = this.#making.then(() => this.#makeOne());
    await this.#making;
  }

  /** The one for the template that was asked for last. The next has its own pause to wait for. */
  async #makeOne(): Promise<void> {
    const shelf = [...this.#shelves.values()].findLast(({ ready }) => ready.length < this.#options.count);
    if (!shelf || this.#ending.signal.aborted) return;
    try {
      const spare = await this.#make(shelf.template);
      if (this.#shelves.get(shelf.template.name) !== shelf) return await this.#discard([spare], shelf.template.name);
      shelf.ready.push(spare);
      this.#makeSoon();
    } catch (error) {
      if (!this.#ending.signal.aborted) this.#options.onError(error, shelf.template.name);
    }
  }

  async #make(template: Template): Promise<Spare> {
    const { backend, mounter } = this.#options;
    const path = await backend.spares.make(template);
    try {
      return { path, device: await mounter.stage({ kind: 'file', path }, template, this.#ending.signal) };
    } catch (error) {
      backend.spares.remove(path);
      throw error;
    }
  }

  async #clear(name: string): Promise<void> {
    const shelf = this.#shelves.get(name);
    if (!shelf) return;
    this.#shelves.delete(name);
    clearTimeout(shelf.unused);
    await this.#discard(shelf.ready.splice(0), name);
  }

  /** Does not fail: what is left `recover` takes away. */
  async #discard(spares: readonly Spare[], template: string): Promise<void> {
    for (const { path, device } of spares) {
      try {
        await device[Symbol.asyncDispose]();
        this.#options.backend.spares.remove(path);
      } catch (error) {
        this.#options.onError(error, template);
      }
    }
  }
}
