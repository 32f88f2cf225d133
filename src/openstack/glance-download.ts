/** The bytes of an image, whole and as Glance hashed them, or an error at their end. */
import { createHash, getHashes, type Hash } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShiftvolError } from '../errors.ts';
import type { Image } from './glance-image.ts';
import { OpenstackError } from './openstack-error.ts';
import { delayAfter } from './retry.ts';
import type { CloudSession } from './session.ts';
import { type Exchange, withoutSecrets } from './transport.ts';

/** Cuts in a row that brought no byte. One that did bring some begins the count anew: a long download over a bad line gets there. */
const MAX_BARREN = 4;

/** @throws SV_IMAGE_REFUSED: its hash is of a kind that this host cannot compute */
export function downloadImage(session: CloudSession, image: Image, signal: AbortSignal): Readable {
  const hash = image.digest && hashFor(image, image.digest.algorithm);
  if (!hash)
    session.log?.warn(`Image ${image.id} has no hash in Glance: its length is all that can be verified`, {
      image: image.id,
    });
  return Readable.from(read(session, image, hash, signal), { objectMode: false, highWaterMark: 2 ** 18 });
}

async function* read(
  session: CloudSession,
  image: Image,
  hash: Hash | undefined,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  let done = 0;
  let barren = 0;
  /** A reader that stops before the end throws into the yield: nobody wants the rest. */
  let abandoned = false;
  for (;;) {
    const before = done;
    const exchange = await openFrom(session, image, done, signal);
    try {
      for await (const chunk of exchange.rest) {
        done += chunk.length;
        if (image.sizeBytes !== undefined && done > image.sizeBytes)
          throw wrongSize(image, `more than ${image.sizeBytes}`);
        hash?.update(chunk);
        abandoned = true;
        yield chunk;
        abandoned = false;
      }
      const whole = image.sizeBytes ?? exchange.wholeBytes;
      if (whole === undefined || done >= whole) break;
      session.log?.debug(`image: ${image.id} ended after ${done} of ${whole} bytes`, { image: image.id });
    } catch (error) {
      signal.throwIfAborted();
      if (abandoned || error instanceof ShiftvolError) throw error;
      session.log?.debug(`image: ${image.id} broke off after ${done} bytes: ${withoutSecrets(error).message}`, {
        image: image.id,
      });
      if (done === before && barren >= MAX_BARREN) throw brokenOff(image, done, error);
    } finally {
      exchange.body.destroy();
    }
    barren = done > before ? 0 : barren + 1;
    if (barren > MAX_BARREN) throw brokenOff(image, done);
    await sleep(delayAfter(barren + 1, session.retry), undefined, { signal });
  }
  if (image.sizeBytes !== undefined && done !== image.sizeBytes) throw wrongSize(image, `${done}`);
  if (hash && image.digest) mustMatch(image, image.digest.hex, hash.digest('hex'));
}

type Opened = {
  readonly body: Readable;
  readonly rest: AsyncIterable<Buffer>;
  readonly wholeBytes: number | undefined;
};

/** The rest from `offset` on; from a Glance (or a store) that knows no ranges all of it comes, and what we have is skipped. */
async function openFrom(session: CloudSession, image: Image, offset: number, signal: AbortSignal): Promise<Opened> {
  const exchange = await session.open(
    'image',
    {
      method: 'GET',
      path: `/images/${image.id}/file`,
      headers: { accept: 'application/octet-stream', ...(offset > 0 && { range: `bytes=${offset}-` }) },
      purpose: `download the image ${image.name ?? image.id}`,
    },
    signal,
  );
  if (exchange.status === 204) throw refuse(exchange, image, 'it has no data');
  const { body } = exchange;
  if (exchange.status !== 206)
    return { body, rest: offset === 0 ? body : skip(body, offset), wholeBytes: lengthOf(exchange) };
  const [, first, whole] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(exchange.headers['content-range'] ?? '') ?? [];
  if (Number(first) !== offset) throw refuse(exchange, image, 'the part that came is not the one that was asked for');
  return { body, rest: body, wholeBytes: whole === undefined || whole === '*' ? undefined : Number(whole) };
}

function lengthOf({ headers }: Exchange): number | undefined {
  const text = headers['content-length'];
  return text === undefined ? undefined : Number(text);
}

async function* skip(body: AsyncIterable<Buffer>, bytes: number): AsyncGenerator<Buffer> {
  let left = bytes;
  for await (const chunk of body) {
    const rest = chunk.subarray(Math.min(left, chunk.length));
    left -= chunk.length - rest.length;
    if (rest.length > 0) yield rest;
  }
}

function hashFor(image: Image, algorithm: string): Hash {
  if (getHashes().includes(algorithm)) return createHash(algorithm);
  throw new ShiftvolError(
    'SV_IMAGE_REFUSED',
    `Cannot verify the image ${image.name ?? image.id}: its hash is ${JSON.stringify(algorithm)}, which is not known here`,
    { field: 'os_hash_algo' },
  );
}

function mustMatch(image: Image, wanted: string, found: string): void {
  if (wanted === found) return;
  throw new ShiftvolError(
    'SV_CHECKSUM',
    `Cannot use the image ${image.name ?? image.id}: its ${image.digest?.algorithm} is ${found}, Glance says ${wanted}`,
    {
      field: 'os_hash_value',
      remedy: 'what the store of Glance holds is not what was uploaded: upload the image again',
    },
  );
}

function wrongSize(image: Image, found: string): ShiftvolError {
  return new ShiftvolError(
    'SV_CHECKSUM',
    `Cannot use the image ${image.name ?? image.id}: ${found} bytes came, Glance says ${image.sizeBytes}`,
    { field: 'size' },
  );
}

function brokenOff(image: Image, done: number, cause?: unknown): ShiftvolError {
  return new ShiftvolError(
    'SV_DOWNLOAD',
    `Cannot download the image ${image.name ?? image.id}: it broke off after ${done} of ${image.sizeBytes ?? 'an unknown number of'} bytes, again and again`,
    cause === undefined ? {} : { cause: withoutSecrets(cause) },
  );
}

function refuse({ status, requestId, body }: Exchange, image: Image, words: string): OpenstackError {
  body.destroy();
  return new OpenstackError('SV_OPENSTACK', `Cannot download the image ${image.name ?? image.id}: ${words}`, {
    status,
    requestId,
  });
}
