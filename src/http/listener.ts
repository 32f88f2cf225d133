/**
 * The HTTP port for people and monitors, off unless `http.listen` is set. It knows no route of its own: metrics, health and the page hang
 * theirs in. It is for plain requests by few: whoever is slow, says too much or calls by a foreign name is sent away.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { BlockList, isIP, isIPv6 } from 'node:net';
import { listenOn } from '../listening.ts';

export type Route = {
  /** HEAD is answered where GET is. */
  readonly method: 'GET' | 'POST';
  /** The exact path, or a beginning that ends in "/": of several that fit the longest. */
  readonly path: string;
  /** One that throws before it has answered gives 500 and none of its words. A body it has to read, and to limit, itself. */
  handle(request: IncomingMessage, response: ServerResponse, url: URL): void | Promise<void>;
};

export type ListenOptions = {
  /** `127.0.0.1:9477` or `[::1]:9477`. Port 0: any that is free. */
  readonly address: string;
  readonly routes: readonly Route[];
};

const HEADERS_MS = 5000;
const REQUEST_MS = 15_000;
/** A connection over which nothing goes in either direction; who streams has to say something sooner. */
const IDLE_MS = 30_000;
const MAX_HEADER_BYTES = 8192;
const MOST_CONNECTIONS = 128;
/** At the end, for answers that are on their way. */
const LAST_WORDS_MS = 250;

/**
 * Disposing takes no new connections, and ends those that are open.
 * @throws SV_CONFIG: it cannot be listened there
 */
export async function listen({ address, routes }: ListenOptions): Promise<AsyncDisposable & { readonly url: string }> {
  // Not an import: that reads every export, the lazy WebSocket among them, which loads undici and costs more than all the rest.
  const { createServer } = process.getBuiltinModule('node:http');
  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: HEADERS_MS,
    requestTimeout: REQUEST_MS,
    connectionsCheckingInterval: 1000,
  });
  server.maxConnections = MOST_CONNECTIONS;
  server.setTimeout(IDLE_MS, socket => socket.destroy());
  const at = await listenOn(server, address, 'http.listen');
  server.on('error', () => undefined); // of one connection that could not be taken
  const onlyHere = isLoopback(at.address);
  server.on('request', (request, response) => void answer(routes, onlyHere, request, response));
  return {
    url: `http://${isIPv6(at.address) ? `[${at.address}]` : at.address}:${at.port}`,
    [Symbol.asyncDispose]: () => close(server),
  };
}

async function close(server: Server): Promise<void> {
  const closed = new Promise(done => server.close(done));
  const cut = setTimeout(() => server.closeAllConnections(), LAST_WORDS_MS);
  await closed;
  clearTimeout(cut);
}

async function answer(
  routes: readonly Route[],
  onlyHere: boolean,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  response.on('error', () => response.destroy());
  if (onlyHere && !isLocalName(request.headers.host)) return refuse(response, 421, 'this is not the host you named');
  const url = pathOf(request.url);
  if (!url) return refuse(response, 400, 'a path is accepted');
  const there = routes.filter(({ path }) =>
    path.endsWith('/') ? url.pathname.startsWith(path) : url.pathname === path,
  );
  if (there.length === 0) return refuse(response, 404, 'there is nothing here');
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  const [route] = there.filter(r => r.method === method).sort((a, b) => b.path.length - a.path.length);
  if (!route) {
    response.setHeader('allow', [...new Set(there.map(r => r.method))].join(', '));
    return refuse(response, 405, 'this is not done here');
  }
  try {
    await route.handle(request, response, url);
  } catch {
    // What has begun must not look as if it were whole.
    if (response.headersSent) response.destroy();
    else refuse(response, 500, 'this failed; the log may say more');
  }
}

function refuse(response: ServerResponse, status: number, why: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' });
  response.end(`${why}\n`);
}

/** Undefined for `*`, for a whole URL (we are no proxy) and for what is no path. */
function pathOf(target = ''): URL | undefined {
  if (!target.startsWith('/') || target.startsWith('//')) return undefined;
  return URL.parse(target, 'http://host') ?? undefined;
}

/**
 * A page of somebody else whose name suddenly leads to this address (DNS rebinding) still calls us by that name. Any port: it may come
 * through a tunnel. No name at all (HTTP/1.0) is no browser's.
 */
function isLocalName(header: string | undefined): boolean {
  if (header === undefined) return true;
  const name = header.replace(/:\d*$/, '').replace(/^\[|\]$/g, '');
  return name.toLowerCase() === 'localhost' || isLoopback(name);
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

function isLoopback(address: string): boolean {
  const family = isIP(address);
  return family !== 0 && LOOPBACK.check(address, family === 4 ? 'ipv4' : 'ipv6');
}
