import { read } from 'node:fs';
import { promisify } from 'node:util';
import type { Fd } from '../kernel/fd.ts';

const readAsync = promisify(read);

/** Shorter than asked where the file ends before. Borrows `fd`. */
export async function readRange(fd: Fd, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await readAsync(fd, bytes, done, length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}
