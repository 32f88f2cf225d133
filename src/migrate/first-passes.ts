/**
 * The source's half of a first pass: what a root held at one moment while its instance ran, lent to the host that it moves to, and kept
 * there until the move is over, so that the last pass brings only what changed since. It is this process's alone: where that ends,
 * `recover` removes the copy, and the last pass brings all of it.
 */
import type { Attachment } from '../engine/model.ts';
import type { BorrowedImage } from '../engine/snapshots.ts';
import { ShiftvolError } from '../errors.ts';
import { versionOf } from './facts.ts';

/** For the other host to come, or to come again after the line broke. */
const PATIENCE_MS = 10_000;
/** A move that nobody ended: its copy must not hold blocks of the pool for ever. */
const LONGEST_MS = 2 * 3_600_000;

export type Borrow = (attachment: string, signal: AbortSignal) => Promise<BorrowedImage>;
export type FirstPass = { readonly attachment: Attachment; readonly path: string; readonly version: string };
type Held = {
  readonly image: BorrowedImage;
  readonly pass: FirstPass;
  readonly outcome: PromiseWithResolvers<boolean>;
  readonly longest: NodeJS.Timeout;
  fetching: number;
  patience: NodeJS.Timeout | undefined;
};

export class FirstPasses implements AsyncDisposable {
  readonly #borrow: Borrow;
  readonly #patienceMs: number;
  readonly #held = new Map<string, Held>();

  constructor(borrow: Borrow, patienceMs = PATIENCE_MS) {
    this.#borrow = borrow;
    this.#patienceMs = patienceMs;
  }

  /** An earlier one of the same root ends. @throws what taking a snapshot throws */
  async begin(id: string, signal: AbortSignal): Promise<FirstPass> {
    await this.end(id);
    const image = await this.#borrow(id, signal);
    const pass = { attachment: image.attachment, path: image.path, version: versionOf(image.path) };
    const longest = setTimeout(() => void this.end(id).catch(() => undefined), LONGEST_MS).unref();
    const held: Held = {
      image,
      pass,
      outcome: Promise.withResolvers(),
      longest,
      fetching: 0,
      patience: undefined,
    };
    this.#held.set(id, held);
    this.#wait(held);
    return pass;
  }

  find(id: string): FirstPass | undefined {
    return this.#held.get(id)?.pass;
  }

  /** It is read until what comes back is disposed of. @throws SV_SNAPSHOT_NOT_FOUND */
  fetching(id: string): FirstPass & Disposable {
    const held = this.#held.get(id);
    if (!held) throw new ShiftvolError('SV_SNAPSHOT_NOT_FOUND', `Cannot send a first pass of ${id}: there is none`);
    held.fetching++;
    clearTimeout(held.patience);
    return {
      ...held.pass,
      [Symbol.dispose]: () => {
        held.fetching--;
        if (held.fetching === 0) this.#wait(held);
      },
    };
  }

  /** What the other host says of it: it has all of it on its disk, or does not go on. */
  tell(id: string, arrived: boolean): void {
    this.#held.get(id)?.outcome.resolve(arrived);
  }

  /** Whether all of it is there; false also where nothing was heard for too long. @throws the signal's reason */
  async arrived(id: string, signal: AbortSignal): Promise<boolean> {
    const held = this.#held.get(id);
    if (!held) return false;
    const { promise: told, reject } = Promise.withResolvers<never>();
    const stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    try {
      signal.throwIfAborted();
      return await Promise.race([held.outcome.promise, told]);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  /** None is success. */
  async end(id: string): Promise<void> {
    const held = this.#held.get(id);
    if (!held) return;
    this.#held.delete(id);
    clearTimeout(held.patience);
    clearTimeout(held.longest);
    held.outcome.resolve(false);
    await held.image[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#held.keys()].map(id => this.end(id)));
  }

  #wait(held: Held): void {
    held.patience = setTimeout(() => held.outcome.resolve(false), this.#patienceMs).unref();
  }
}
