/** Fetches an image or archive over http or https into a file of ours. */
import { ShiftvolError } from '../../errors.ts';
import type { CopyOptions } from './copy.ts';
import { roomFor, save, tooLarge } from './save.ts';

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
  const limit = roomFor(to);
  const from = withoutSecrets(url.href);
  const request = got.stream(url, {
    decompress: false,
    headers: { 'accept-encoding': 'identity' },
    maxRedirects: MAX_REDIRECTS,
    retry: { limit: 0 },
    timeout: TIMEOUTS_MS,
    hooks: { beforeRedirect: [options => refuseDowngrade(url, options.url)] },
  });
  let total = 0;
  request.on('response', (response: { headers: Record<string, string | undefined> }) => {
    total = Number(response.headers['content-length'] ?? 0);
    // Told below: what got makes of an error that it is destroyed with is its own.
    if (total > limit) request.destroy();
  });
  let saved: Awaited<ReturnType<typeof save>>;
  try {
    saved = await save(request, to, { from, total: () => total, signal, onProgress });
  } catch (error) {
    signal?.throwIfAborted();
    if (total > limit) throw tooLarge(from, total, limit);
    if (error instanceof ShiftvolError) throw error;
    throw new ShiftvolError('SV_DOWNLOAD', `Cannot download ${from}`, { cause: error });
  }
  if (total > 0 && saved.sizeBytes !== total)
    throw new ShiftvolError(
      'SV_DOWNLOAD',
      `Cannot download ${from}: it ended after ${saved.sizeBytes} of ${total} bytes`,
    );
  return saved;
}

function refuseDowngrade(from: URL, to: string | URL | undefined): void {
  if (from.protocol === 'https:' && new URL(to ?? from).protocol !== 'https:')
    throw new ShiftvolError(
      'SV_DOWNLOAD',
      `Cannot download ${withoutSecrets(from.href)}: it redirects from https to http`,
    );
}

/** Neither user and password nor a query, which may hold a signature, in what is told. */
function withoutSecrets(from: string): string {
  const url = URL.parse(from);
  return url === null ? from.slice(0, 200) : `${url.protocol}//${url.host}${url.pathname}`;
}
