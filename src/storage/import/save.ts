/** Writes what comes as a stream into a file of ours. */
import { createHash } from 'node:crypto';
import { createWriteStream, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ShiftvolError } from '../../errors.ts';
import { type CopyOptions, noSpace } from './copy.ts';

export type SaveOptions = CopyOptions & {
  /** For messages. */
  readonly from: string;
  /** Bytes that will come, as far as that is known by now; 0: not. */
  readonly total: () => number;
};

/**
 * `to` is made; no more is taken than its file system has room for.
 * @throws SV_NO_SPACE; what the stream fails with; the signal's reason
 */
export async function save(
  body: Readable,
  to: string,
  { from, total, signal, onProgress }: SaveOptions,
): Promise<{ sha256: string; sizeBytes: number }> {
  const limit = roomFor(to);
  const hash = createHash('sha256');
  let done = 0;
  const count = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      hash.update(chunk);
      done += chunk.length;
      onProgress(done, total());
      next(done > limit ? tooLarge(from, done, limit) : null, chunk);
    },
  });
  try {
    await pipeline(body, count, createWriteStream(to, { flags: 'wx', mode: 0o600 }), { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw noSpace(error, to);
  }
  return { sha256: hash.digest('hex'), sizeBytes: done };
}

/** Bytes that a file at this path may have. */
export function roomFor(path: string): number {
  const room = statfsSync(dirname(path));
  return room.bavail * room.bsize;
}

export function tooLarge(from: string, bytes: number, limit: number): ShiftvolError {
  return new ShiftvolError(
    'SV_NO_SPACE',
    `Cannot import ${from}: it has ${bytes} bytes or more, the pool has room for ${limit}`,
    { remedy: '"shiftvol pool grow --size SIZE", or remove templates' },
  );
}
