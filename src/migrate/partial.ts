/** A file that is being received, and the list of the blocks in it. Cut off, the next try finds them there. */
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  write,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { punchHole } from '../kernel/fallocate.ts';
import { type Fd, type Owned, open } from '../kernel/fd.ts';
import { noSpace } from '../storage/import/copy.ts';
import { damaged, type Frame, sha256Of } from './frame.ts';
import { readRange } from './read-range.ts';
import { keyOf } from './send.ts';

const writeAsync = promisify(write);
type Name = 'template' | 'volume';

export class Partial implements Disposable {
  readonly path: string;
  readonly #name: Name;
  readonly #file: Owned<Fd>;
  readonly #list: number;
  readonly #before: Owned<Fd> | undefined;

  /**
   * `path` is made anew; what an earlier try left of it is kept beside it, to take blocks from. Of two such, the one with more blocks.
   * The caller fills the file before the first frame.
   */
  constructor(path: string, name: Name) {
    this.path = path;
    this.#name = name;
    const old = `${path}.before`;
    if (existsSync(path) && listSize(path) >= listSize(old)) {
      renameSync(path, old);
      if (existsSync(listOf(path))) renameSync(listOf(path), listOf(old));
    }
    this.#before = existsSync(old) ? open(old, constants.O_RDONLY) : undefined;
    this.#file = open(path, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW, 0o600);
    this.#list = openSync(listOf(path), 'w', 0o600);
  }

  get fd(): Fd {
    return this.#file.fd;
  }

  /** A block that the sender left out is read from the earlier try, and must be what it was. @throws SV_CHECKSUM, SV_NO_SPACE */
  async put(frame: Extract<Frame, { offset: number }>): Promise<void> {
    if (frame.kind === 'zeros') {
      await punchHole(this.fd, frame.offset, frame.length, this.path);
      return;
    }
    const bytes = frame.kind === 'data' ? frame.bytes : await this.#kept(frame);
    try {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await writeAsync(this.fd, bytes, done, bytes.length - done, frame.offset + done);
        done += bytesWritten;
      }
    } catch (error) {
      throw noSpace(error, this.path);
    }
    writeSync(this.#list, `${keyOf(this.#name, frame.offset, frame.sha256)}\n`);
  }

  /** Takes away what an earlier try left. */
  forget(): void {
    for (const path of [`${this.path}.before`, listOf(`${this.path}.before`), listOf(this.path)])
      rmSync(path, { force: true });
  }

  async #kept({ offset, length, sha256 }: Extract<Frame, { kind: 'kept' }>): Promise<Buffer> {
    const bytes = this.#before && (await readRange(this.#before.fd, offset, length));
    if (bytes?.length === length && sha256Of(bytes).equals(sha256)) return bytes;
    // The next try must not be told of it again.
    rmSync(listOf(`${this.path}.before`), { force: true });
    throw damaged(`the block at ${offset} was to be here already, and is not`);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
    this.#before?.[Symbol.dispose]();
    closeSync(this.#list);
  }
}

/** The blocks of earlier tries, as the sender wants to know them. */
export function blocksIn(path: string): readonly string[] {
  const [younger, older] = [path, `${path}.before`];
  const file = listSize(younger) >= listSize(older) ? younger : older;
  if (listSize(file) === 0) return [];
  // The last line may have been cut.
  return readFileSync(listOf(file), 'latin1').split('\n').slice(0, -1);
}

function listOf(path: string): string {
  return `${path}.blocks`;
}

function listSize(path: string): number {
  return statSync(listOf(path), { throwIfNoEntry: false })?.size ?? 0;
}
