import type { Readable } from 'node:stream';
import { NoAnswer, withoutSecrets } from './transport.ts';

const MAX_BYTES = 16 * 2 ** 20;

/** All of a body as text. @throws NoAnswer: it broke off, or is larger than any answer that we ask for */
export async function readText(body: Readable, maxBytes = MAX_BYTES): Promise<string> {
  return (await readBytes(body, maxBytes)).toString('utf8');
}

/** @throws as `readText` */
export async function readBytes(body: Readable, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > maxBytes) throw new NoAnswer(`The answer has more than ${maxBytes} bytes`, { code: 'TOO_LARGE' });
      chunks.push(chunk);
    }
  } catch (error) {
    throw withoutSecrets(error);
  } finally {
    // got goes on listening to the signal until then. The connection is free by now, and stays.
    body.destroy();
  }
  return Buffer.concat(chunks);
}
