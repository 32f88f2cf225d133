import type { IncomingMessage } from 'node:http';
import { ShiftvolError } from '../errors.ts';

const MAX_BODY_BYTES = 64 * 1024;

/**
 * What a request carries. Read to its end in any case: a client that still writes would not come to see the answer.
 * @throws SV_MESSAGE: larger than 64 KiB, or not JSON
 */
export async function jsonBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  if (size > MAX_BODY_BYTES)
    throw new ShiftvolError('SV_MESSAGE', `Cannot take the request: it is larger than ${MAX_BODY_BYTES} bytes`);
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (cause) {
    throw new ShiftvolError('SV_MESSAGE', 'Cannot read the request: it is not JSON', { cause });
  }
}
