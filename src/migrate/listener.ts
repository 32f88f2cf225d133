/**
 * Where another host fetches what was offered to it: `POST /v1/volume/OFFER` with the token as bearer gives the stream, `PUT` says that all of
 * a first pass has arrived, and `DELETE` ends the offer, when all has arrived or is not wanted any more. The body of the POST says what is
 * there already: the sha256 of templates, the version of an earlier pass and the blocks of an earlier try, a line each. Whoever has no token
 * learns nothing, not even whether there is such an offer.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import {
  createServer as createPlain,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTls } from 'node:https';
import { explain, ShiftvolError } from '../errors.ts';
import { listenOn } from '../listening.ts';
import type { Offer, Offers } from './offers.ts';
import { type Sendable, type Sent, sendVolume } from './send.ts';

/** A volume of a terabyte of which every block has been sent before. */
const MAX_BODY_BYTES = 32 * 2 ** 20;
const IDLE_MS = 60_000;
const MOST_CONNECTIONS = 64;
export const TEMPLATE_LINE = 'has-template ';
export const VERSION_LINE = 'has-version ';

export type Lent = AsyncDisposable & { readonly sendable: Sendable };
/** What the other side has: sha256 of templates, versions of earlier passes. */
export type Have = { readonly templates: ReadonlySet<string>; readonly versions: ReadonlySet<string> };
export type Lend = (offer: Offer, have: Have, signal: AbortSignal) => Promise<Lent>;

export type ListenOptions = {
  /** `192.0.2.1:7780` */
  readonly address: string;
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  readonly offers: Offers;
  readonly lend: Lend;
  /** What the other side says of an offer. */
  readonly told?: (offer: Offer, what: 'arrived' | 'ended') => void;
  readonly log: { info(text: string, facts?: object): void; warn(text: string, facts?: object): void };
};

/** Disposing ends what is under way: the other side tries again. @throws SV_CONFIG: it cannot be listened there, or the files cannot be read */
export async function listenForFetches(options: ListenOptions): Promise<AsyncDisposable & { readonly port: number }> {
  const { address, tls } = options;
  const stop = new AbortController();
  const sending: Sending = new Map();
  const working = new Set<Promise<void>>();
  const handle: RequestListener = (request, response) => {
    const work = answer(options, sending, request, response, stop.signal);
    working.add(work);
    work.finally(() => working.delete(work));
  };
  const server = makeServer(tls, handle);
  server.maxConnections = MOST_CONNECTIONS;
  server.headersTimeout = 10_000;
  server.requestTimeout = IDLE_MS;
  server.setTimeout(IDLE_MS, socket => socket.destroy());
  const { port } = await listenOn(server, address, 'migration.listen');
  return {
    port,
    async [Symbol.asyncDispose]() {
      stop.abort(new ShiftvolError('SV_CANCELLED', 'Cancelled: this host’s agent ends'));
      const closed = new Promise(done => server.close(done));
      server.closeAllConnections();
      await Promise.all([closed, ...working]);
    },
  };
}

function makeServer(tls: ListenOptions['tls'], handle: RequestListener): Server | ReturnType<typeof createTls> {
  if (!tls) return createPlain(handle);
  try {
    return createTls({ cert: readFileSync(tls.cert), key: readFileSync(tls.key), minVersion: 'TLSv1.2' }, handle);
  } catch (cause) {
    throw new ShiftvolError('SV_CONFIG', 'Cannot speak TLS: the certificate or its key cannot be read', {
      field: 'migration.tls',
      cause,
    });
  }
}

const METHODS: ReadonlySet<string> = new Set(['POST', 'PUT', 'DELETE']);
type Sending = Map<string, { readonly stop: () => void; readonly ended: Promise<void> }>;

async function answer(
  { offers, lend, log, told }: ListenOptions,
  sending: Sending,
  request: IncomingMessage,
  response: ServerResponse,
  stop: AbortSignal,
): Promise<void> {
  const offer = authorized(offers, request);
  if (!offer || !METHODS.has(request.method ?? '')) return end(response, 404);
  if (request.method !== 'POST') {
    if (request.method === 'DELETE') offers.end(offer.id);
    told?.(offer, request.method === 'DELETE' ? 'ended' : 'arrived');
    return end(response, 204);
  }
  const gone = new AbortController();
  // One at a time: the token is for one transfer. Whoever asks again has lost the line before we notice.
  const before = sending.get(offer.id);
  const { promise: ended, resolve: endNow } = Promise.withResolvers<void>();
  const mine = { stop: () => gone.abort(new ShiftvolError('SV_CANCELLED', 'Cancelled: it is fetched anew')), ended };
  sending.set(offer.id, mine);
  before?.stop();
  await before?.ended;
  response.once('close', () => gone.abort(new ShiftvolError('SV_CANCELLED', 'Cancelled: the other host has hung up')));
  const signal = AbortSignal.any([stop, gone.signal]);
  try {
    const { blocks, ...have } = await readHave(request);
    const began = performance.now();
    await using lent = await lend(offer, have, signal);
    response.writeHead(200, { 'content-type': 'application/octet-stream' });
    const stream = sendVolume(lent.sendable, { signal, has: block => blocks.has(block) });
    const { changedBytes, sentBytes } = await writeAll(stream, response, signal);
    log.info('a volume was sent', {
      attachment: offer.attachment,
      pass: offer.pass ?? 'last',
      changed_bytes: changedBytes,
      sent_bytes: sentBytes,
      ms: Math.round(performance.now() - began),
    });
  } catch (error) {
    log.warn(`a volume was not sent to its end: ${explain(error)}`, { attachment: offer.attachment });
    // What has begun must not look as if it were whole.
    if (response.headersSent) response.destroy();
    else end(response, 500);
  } finally {
    if (sending.get(offer.id) === mine) sending.delete(offer.id);
    endNow();
  }
}

function authorized(offers: Offers, { url = '', headers }: IncomingMessage): Offer | undefined {
  const [, id = ''] = /^\/v1\/volume\/([0-9a-f]{16})$/.exec(url) ?? [];
  const [, token = ''] = /^Bearer ([\w-]{43})$/.exec(headers.authorization ?? '') ?? [];
  return offers.find(id, token);
}

async function readHave(request: IncomingMessage) {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES)
      throw new ShiftvolError('SV_MESSAGE', `Cannot take the request: it is larger than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  const lines = Buffer.concat(chunks).toString('latin1').split('\n');
  const after = (beginning: string) =>
    new Set(lines.filter(line => line.startsWith(beginning)).map(line => line.slice(beginning.length)));
  return { templates: after(TEMPLATE_LINE), versions: after(VERSION_LINE), blocks: new Set(lines) };
}

/** Not a pipeline: when this has ended, in whichever way, nobody reads from the snapshot any more. */
async function writeAll(
  stream: AsyncGenerator<Buffer, Sent>,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<Sent> {
  let sent: Sent = { changedBytes: 0, sentBytes: 0, keptBytes: 0 };
  const told = async function* () {
    sent = yield* stream;
  };
  response.on('error', () => {}); // then it closes, which is the signal
  for await (const chunk of told()) {
    signal.throwIfAborted();
    if (!response.write(chunk)) await once(response, 'drain', { signal });
  }
  const { promise, resolve } = Promise.withResolvers<void>();
  response.once('close', resolve);
  response.end(resolve);
  await promise;
  return sent;
}

function end(response: ServerResponse, status: number): void {
  response.writeHead(status, { connection: 'close' });
  response.end();
}
