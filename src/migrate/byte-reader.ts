import { notAStream } from './header.ts';

/** Takes a stream apart in pieces of known length. Holds no more than one chunk of it beyond what was asked for. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(stream: AsyncIterable<Buffer>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  /** @throws SV_MESSAGE: the stream ends before */
  async take(count: number): Promise<Buffer> {
    const bytes = await this.takeOrEnd(count);
    if (bytes === undefined && count > 0) throw cut();
    return bytes ?? Buffer.alloc(0);
  }

  /** Undefined where the stream has ended. @throws SV_MESSAGE: it ends in the middle */
  async takeOrEnd(count: number): Promise<Buffer | undefined> {
    const parts: Buffer[] = [];
    let missing = count;
    while (missing > 0) {
      if (this.#rest.length === 0) {
        const { done, value } = await this.#chunks.next();
        if (done === true) {
          if (missing === count) return undefined;
          throw cut();
        }
        this.#rest = value;
        continue;
      }
      const part = this.#rest.subarray(0, missing);
      this.#rest = this.#rest.subarray(part.length);
      parts.push(part);
      missing -= part.length;
    }
    const [only] = parts;
    return only !== undefined && parts.length === 1 ? only : Buffer.concat(parts);
  }
}

function cut() {
  return notAStream('it was cut off');
}
