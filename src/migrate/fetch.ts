/** Fetches from another host what it has offered, and goes on where a try was cut off. */
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { isError, ShiftvolError } from '../errors.ts';
import { splitAddress } from '../listening.ts';
import { listTemplates } from '../storage/templates.ts';
import { ByteReader } from './byte-reader.ts';
import { readHead } from './frame.ts';
import { notAStream } from './header.ts';
import type { Incoming, Pool, Received } from './incoming.ts';
import { TEMPLATE_LINE, VERSION_LINE } from './listener.ts';
import { blocksOf, receiveVolume } from './receive.ts';

const TRIES = 6;
const FIRST_WAIT_MS = 500;
const IDLE_MS = 60_000;

/** What the other host tells through Nova. It says where to connect to, so that it is looked at before that is done. */
const toldShape = z.strictObject({
  v: z.literal(1),
  address: z.string().regex(/^(?:\[[0-9A-Fa-f:.]+\]|[^\s/:@[\]]{1,253}):\d{1,5}$/),
  tls: z.boolean(),
  offer: z.string().regex(/^[0-9a-f]{16}$/),
  token: z.string().regex(/^[\w-]{43}$/),
  attachment: z.string().regex(/^[0-9a-f]{16}$/),
  sizeBytes: z
    .int()
    .positive()
    .max(2 ** 46),
  /** Fetched while the instance runs: another pass comes after it. */
  pass: z.literal('first').optional(),
});
export type Told = z.infer<typeof toldShape>;

/** @throws SV_MESSAGE; no value is in the text: there is a token among them */
export function parseTold(text: string): Told {
  try {
    const { success, data } = toldShape.safeParse(JSON.parse(text));
    if (success) return data;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new ShiftvolError('SV_MESSAGE', 'Cannot fetch a root file system: what the other host told has another shape', {
    field: 'disk_info',
    remedy: 'use the same version on both hosts',
  });
}

export type FetchOptions = {
  readonly signal: AbortSignal;
  /** File in PEM form; undefined: the system's. */
  readonly ca?: string;
  readonly onRetry: (error: unknown) => void;
};

/**
 * A line that breaks is taken up again some times. `incoming` is held by the caller, and keeps what came.
 * @throws SV_CONNECTION: the other host cannot be reached, or does not give it any more; what receiving throws
 */
export async function fetchVolume(
  pool: Pool,
  incoming: Incoming,
  told: Told,
  options: FetchOptions,
): Promise<Received> {
  for (let attempt = 1; ; attempt++)
    try {
      return await fetchOnce(pool, incoming, told, options);
    } catch (error) {
      options.signal.throwIfAborted();
      if (attempt === TRIES || !mayPass(error)) throw error;
      options.onRetry(error);
      await sleep(FIRST_WAIT_MS * 2 ** (attempt - 1), undefined, { signal: options.signal });
    }
}

/** The other host may remove what it lends. That it cannot be told any more harms nobody: its offer ends by itself. */
export async function endOffer(told: Told, options: Pick<FetchOptions, 'signal' | 'ca'>): Promise<void> {
  try {
    (await ask(told, 'DELETE', '', options)).resume();
  } catch (error) {
    if (!isError(error, 'SV_CONNECTION')) throw error;
  }
}

/** The other host need not wait any more. @throws SV_CONNECTION */
export async function arrived(told: Told, options: Pick<FetchOptions, 'signal' | 'ca'>): Promise<void> {
  (await ask(told, 'PUT', '', options)).resume();
}

async function fetchOnce(pool: Pool, incoming: Incoming, told: Told, options: FetchOptions): Promise<Received> {
  const { received } = incoming;
  const have = [
    ...listTemplates(pool).map(t => TEMPLATE_LINE + t.sha256),
    ...(received ? [VERSION_LINE + received.header.version] : []),
    ...blocksOf(pool, told.attachment),
  ];
  const answer = await ask(told, 'POST', have.join('\n'), options);
  try {
    const reader = new ByteReader(unbroken(answer));
    const head = await readHead(reader);
    if (head?.kind !== 'volume') throw notAStream('no volume is in it');
    const { header } = head;
    // As was told through Nova; a host that sends something else than it offered is not listened to.
    if (header.attachment !== told.attachment || header.sizeBytes > told.sizeBytes || header.last !== isLast(told))
      throw notAStream('it is not what was offered');
    return await receiveVolume(pool, incoming, header, reader, { signal: options.signal });
  } finally {
    answer.destroy();
  }
}

const isLast = ({ pass }: Told): boolean => pass !== 'first';

async function* unbroken(answer: IncomingMessage): AsyncGenerator<Buffer> {
  try {
    yield* answer;
  } catch (cause) {
    throw broken('the line broke', cause);
  }
}

async function ask(
  { address, tls, offer, token }: Told,
  method: 'POST' | 'PUT' | 'DELETE',
  body: string,
  { signal, ca }: Pick<FetchOptions, 'signal' | 'ca'>,
): Promise<IncomingMessage> {
  const { request } = tls ? await import('node:https') : await import('node:http');
  const [host, port] = splitAddress(address);
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = request(
    {
      host,
      port,
      method,
      path: `/v1/volume/${offer}`,
      agent: false,
      signal,
      timeout: IDLE_MS,
      headers: { authorization: `Bearer ${token}`, 'content-length': Buffer.byteLength(body, 'latin1') },
      ...(tls && { minVersion: 'TLSv1.2', ...(isIP(host) === 0 && { servername: host }) }),
      ...(tls && ca !== undefined && { ca: readFileSync(ca) }),
    },
    resolve,
  );
  outgoing.once('timeout', () => outgoing.destroy(new Error(`nothing was heard for ${IDLE_MS} ms`)));
  outgoing.once('error', reject);
  outgoing.end(body, 'latin1');
  let answer: IncomingMessage;
  try {
    answer = await promise;
  } catch (cause) {
    signal.throwIfAborted();
    throw broken(`${address} cannot be reached`, cause);
  }
  const { statusCode = 0 } = answer;
  if (statusCode === 200 || statusCode === 204) return answer;
  answer.destroy();
  if (statusCode === 404)
    throw new ShiftvolError('SV_SNAPSHOT_NOT_FOUND', `Cannot fetch a volume: ${address} does not offer it any more`, {
      remedy: 'begin the move again',
    });
  throw broken(`${address} answers ${statusCode}`);
}

function broken(what: string, cause?: unknown): ShiftvolError {
  return new ShiftvolError('SV_CONNECTION', `Cannot fetch a volume: ${what}`, {
    remedy: 'see migration.listen and migration.tls of both hosts',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** A cut stream reads as one that is no stream. */
function mayPass(error: unknown): boolean {
  return isError(error, 'SV_CONNECTION', 'SV_CHECKSUM') || (isError(error, 'SV_MESSAGE') && error.field === 'stream');
}
