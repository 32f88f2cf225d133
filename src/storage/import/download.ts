/** Fetches an image or archive over http or https into a file of ours. */
import { createHash } from 'node:crypto';
import { createWriteStream, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ShiftvolError } from '../../errors.ts';
import type { CopyOptions } from './copy.ts';

const TIMEOUTS_MS = {
  lookup: 10_000,
  connect: 10_000,
  secureConnect: 10_000,
  response: 30_000,
  socket: 60_000,
} as const;
const MAX_REDIRECTS = 5;

export const isUrl = (from: string): boolean => /^[a-z][a-z0-9+.-]*:\/\//i.test(from);

/** @throws SV_USAGE: not http or https */
export function parseUrl(from: string): URL {
  const url = URL.parse(from);
  if (url !== null && (url.protocol === 'http:' || url.protocol === 'https:')) return url;
  throw new ShiftvolError(
    'SV_USAGE',
    `Cannot import from ${JSON.stringify(withoutSecrets(from))}: http and https URLs are accepted`,
    { field: 'from' },
  );
}

/**
 * Writes the body to `to`, which is made; returns its sha256 and size. Certificates are verified; a redirect may not go from https to
 * http; no more is taken than the pool has room for.
 * @throws SV_DOWNLOAD, SV_NO_SPACE
 */
export async function download(
  url: URL,
  to: string,
  { signal, onProgress }: CopyOptions,
): Promise<{ sha256: string; sizeBytes: number }> {
  const { default: got } = await import('got');
  const room = statfsSync(dirname(to));
  const limit = room.bavail * room.bsize;
  const request = got.stream(url, {
    decompress: false,
    headers: { 'accept-encoding': 'identity' },
    maxRedirects: MAX_REDIRECTS,
    retry: { limit: 0 },
    timeout: TIMEOUTS_MS,
    hooks: { beforeRedirect: [options => refuseDowngrade(url, options.url)] },
  });
  const hash = createHash('sha256');
  let done = 0;
  let total = 0;
  request.on('response', (response: { headers: Record<string, string | undefined> }) => {
    total = Number(response.headers['content-length'] ?? 0);
    // Told below: what got makes of an error that it is destroyed with is its own.
    if (total > limit) request.destroy();
  });
  const count = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      hash.update(chunk);
      done += chunk.length;
      onProgress(done, total);
      next(done > limit ? tooLarge(url, done, limit) : null, chunk);
    },
  });
  try {
    await pipeline(request, count, createWriteStream(to, { flags: 'wx', mode: 0o600 }), { signal });
  } catch (error) {
    signal?.throwIfAborted();
    if (total > limit) throw tooLarge(url, total, limit);
    if (error instanceof ShiftvolError) throw error;
    throw new ShiftvolError('SV_DOWNLOAD', `Cannot download ${withoutSecrets(url.href)}`, {
      cause: error,
    });
  }
  if (total > 0 && done !== total)
    throw new ShiftvolError(
      'SV_DOWNLOAD',
      `Cannot download ${withoutSecrets(url.href)}: it ended after ${done} of ${total} bytes`,
    );
  return { sha256: hash.digest('hex'), sizeBytes: done };
}

function refuseDowngrade(from: URL, to: string | URL | undefined): void {
  if (from.protocol === 'https:' && new URL(to ?? from).protocol !== 'https:')
    throw new ShiftvolError(
      'SV_DOWNLOAD',
      `Cannot download ${withoutSecrets(from.href)}: it redirects from https to http`,
    );
}

function tooLarge(url: URL, bytes: number, limit: number): ShiftvolError {
  return new ShiftvolError(
    'SV_NO_SPACE',
    `Cannot download ${withoutSecrets(url.href)}: it has ${bytes} bytes or more, the pool has room for ${limit}`,
    {
      remedy: '"shiftvol pool grow --size SIZE", or remove templates',
    },
  );
}

/** Neither user and password nor a query, which may hold a signature, in what is told. */
function withoutSecrets(from: string): string {
  const url = URL.parse(from);
  return url === null ? from.slice(0, 200) : `${url.protocol}//${url.host}${url.pathname}`;
}
