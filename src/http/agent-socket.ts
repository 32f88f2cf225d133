import { chmodSync, lstatSync, statSync, unlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { type RequestMessage, asked as watch } from '../engine/channels.ts';
import type { Engine } from '../engine/engine.ts';
import { asError, CODES, report, ShiftvolError } from '../errors.ts';
import { type ApiRequest, answer, parseApiRequest } from './api.ts';
import { jsonBody } from './json-body.ts';

/** A request is a command with a few paths: more is junk. */
/** sockaddr_un(7): 108 with the NUL. */
const MAX_PATH_BYTES = 107;
/** At the end, for those who do not take their answer. */
const LAST_WORDS_MS = 1000;

export type Health = (ready: boolean) => object | Promise<object>;
/** Numbers for whoever watches. Each watcher asks once a second: they are counted, not worked out. */
export type Stats = () => object;

/**
 * The agent's HTTP/JSON socket. Whoever may open it (root: mode 0600) may ask for anything the engine does.
 * `POST /v1/call` with an ApiRequest answers `{"result": …}` or `{"error": {code, message, …}}`; `GET /v1/health` answers `health(false)`, and
 * with `?ready` `health(true)`, which may ask others; `GET /v1/stats` answers `stats()`.
 * Whoever hangs up before the answer gives up what was asked: it is cancelled, and undone.
 * @throws SV_CONFIG: no place for a socket; SV_LOCKED: another agent listens there
 */
export async function listenOnSocket(
  path: string,
  engine: Engine,
  health: Health,
  signal: AbortSignal,
  stats: Stats = () => ({}),
): Promise<AsyncDisposable> {
  requirePlace(path);
  await removeStale(path);
  const working = new Set<Promise<void>>();
  const server = createServer((request, response) => {
    const work = handle({ engine, health, stats }, request, response, signal);
    working.add(work);
    work.finally(() => working.delete(work));
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  // The socket is born with the mode that it keeps: there is no moment in which others may connect.
  const before = process.umask(0o177);
  server.listen(path, resolve);
  try {
    await promise;
  } finally {
    process.umask(before);
  }
  chmodSync(path, 0o600);
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise(done => server.close(done));
      await Promise.allSettled(working);
      server.closeIdleConnections();
      // One that has sent half a request, or does not read, is not waited for.
      const cut = setTimeout(() => server.closeAllConnections(), LAST_WORDS_MS);
      await closed;
      clearTimeout(cut);
    },
  };
}

/** Whoever may write to the directory could put a socket of his own there, and be told what root asks. */
function requirePlace(path: string): void {
  const refuse = (what: string, remedy: string) => {
    throw new ShiftvolError('SV_CONFIG', `Cannot listen on "${path}": ${what}`, { field: 'run_dir', remedy });
  };
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_PATH_BYTES)
    refuse(`the path has ${bytes} bytes, ${MAX_PATH_BYTES} are accepted`, 'choose a shorter run_dir');
  const { mode, uid } = statSync(dirname(path));
  if ((mode & 0o022) !== 0 || uid !== process.geteuid?.())
    refuse('others may write to its directory', `chown root ${dirname(path)}; chmod go-w ${dirname(path)}`);
}

/** A socket that nobody listens on is what a killed agent left. @throws SV_LOCKED: somebody listens */
async function removeStale(path: string): Promise<void> {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (!there) return;
  if (!there.isSocket())
    throw new ShiftvolError('SV_CONFIG', `Cannot listen on "${path}": something that is no socket is there`, {
      field: 'run_dir',
      remedy: 'move it away, or use another run_dir',
    });
  if (await isHeard(path))
    throw new ShiftvolError('SV_LOCKED', `Cannot listen on "${path}": another agent does`, {
      remedy: 'stop it, or use another --run-dir',
    });
  unlinkSync(path);
}

async function isHeard(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path, () => resolve(true));
  // Any other error than this one comes from somebody who is there, and has too much to do.
  socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}

type Answering = { readonly engine: Engine; readonly health: Health; readonly stats: Stats };

async function handle(
  { engine, health, stats }: Answering,
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished)
      gone.abort(new ShiftvolError('SV_CANCELLED', 'Cancelled: whoever asked has hung up'));
  });
  try {
    const [path, query] = request.url?.split('?') ?? [];
    if (request.method === 'GET' && path === '/v1/health')
      return send(response, 200, { result: await health(query === 'ready') });
    if (request.method === 'GET' && path === '/v1/stats') return send(response, 200, { result: stats() });
    if (request.method !== 'POST' || request.url !== '/v1/call')
      throw new ShiftvolError(
        'SV_MESSAGE',
        `Cannot answer ${request.method} ${request.url}: there is POST /v1/call, GET /v1/health and GET /v1/stats`,
      );
    const asked = (await jsonBody(request)) as ApiRequest;
    const stop = AbortSignal.any([signal, gone.signal]);
    const work = () => answer(engine, asked, stop);
    send(response, 200, { result: await (onlyLooks(asked) ? work() : watch(() => watchedCall(request, asked), work)) });
  } catch (error) {
    send(response, CODES[asError(error).code].http, { error: report(error) });
  }
}

const LOOKING = new Set(['list', 'show', 'runs', 'snapshot.list', 'snapshot.find', 'idmap.list']);
/** Whoever watches what is done has no use for it. */
const onlyLooks = (asked: ApiRequest): boolean => LOOKING.has(asked?.command);

/** What a request says of itself to those who watch this process. @throws SV_MESSAGE */
function watchedCall({ headers }: IncomingMessage, asked: ApiRequest): RequestMessage {
  const { traceparent, tracestate } = headers;
  const request = parseApiRequest(asked);
  const body = request.command === 'execute' || request.command === 'attach.volume' ? request.body : undefined;
  return {
    by: 'http',
    name: request.command === 'execute' ? request.body.action : request.command,
    ...(body?.requestId !== undefined && { requestId: body.requestId }),
    ...(body && { instance: body.instance.ref }),
    ...(typeof traceparent === 'string' && { traceparent }),
    ...(typeof tracestate === 'string' && { tracestate }),
  };
}

/** JSON; its shape is looked at by who answers. */
function send(response: ServerResponse, status: number, value: object): void {
  if (response.headersSent) return;
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}
