/** What was told last, for those who were away for a moment or are slow: one for all, bounded. */

/** As it goes over the wire; its number is in its id, for `Last-Event-ID`. */
export type Frame = { readonly sequence: number; readonly bytes: Buffer };

const MOST_FRAMES = 512;
const MOST_BYTES = 4 * 2 ** 20;

export class Backlog {
  /** The oldest first, without a gap in their numbers. */
  #frames: Frame[] = [];
  #bytes = 0;

  push(frame: Frame): void {
    this.#frames.push(frame);
    this.#bytes += frame.bytes.length;
    while (this.#frames.length > MOST_FRAMES || this.#bytes > MOST_BYTES) {
      const oldest = this.#frames.shift();
      if (oldest === undefined) break;
      this.#bytes -= oldest.bytes.length;
    }
  }

  /** What comes after that one, the oldest first; undefined where something of it is gone, or where there was no such. */
  after(sequence: number): readonly Frame[] | undefined {
    const [oldest, newest] = [this.#frames[0], this.#frames.at(-1)];
    if (oldest === undefined || newest === undefined) return undefined;
    if (sequence > newest.sequence || sequence < oldest.sequence - 1) return undefined;
    return this.#frames.slice(sequence + 1 - oldest.sequence);
  }

  clear(): void {
    this.#frames = [];
    this.#bytes = 0;
  }
}
