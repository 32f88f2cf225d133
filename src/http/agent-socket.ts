import { chmodSync, unlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { Engine } from '../engine/engine.ts';
import { asError, CODES, report, ShiftvolError } from '../errors.ts';
import { type ApiRequest, answer } from './api.ts';

/** A request is a command with a few paths: more is junk. */
const MAX_BODY_BYTES = 64 * 1024;

/**
 * The agent's HTTP/JSON socket. Whoever may open it (root: mode 0600) may ask for anything the engine does.
 * `POST /v1/call` with an ApiRequest answers `{"result": …}` or `{"error": {code, message, …}}`; `GET /v1/health` answers `health()`.
 */
export async function listenOnSocket(
  path: string,
  engine: Engine,
  health: () => object,
  signal: AbortSignal,
): Promise<AsyncDisposable> {
  await removeStale(path);
  const server = createServer((request, response) => {
    void handle(engine, health, request, response, signal);
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
      server.closeIdleConnections();
      await closed;
    },
  };
}

/** A socket that nobody listens on is what a killed agent left. @throws SV_LOCKED: somebody listens */
async function removeStale(path: string): Promise<void> {
  const alive = await new Promise<boolean>(resolve => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
  if (alive)
    throw new ShiftvolError('SV_LOCKED', `Cannot listen on "${path}": another agent does`, {
      remedy: 'stop it, or use another --run-dir',
    });
  try {
    unlinkSync(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
}

async function handle(
  engine: Engine,
  health: () => object,
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  try {
    if (request.method === 'GET' && request.url === '/v1/health') return send(response, 200, { result: health() });
    if (request.method !== 'POST' || request.url !== '/v1/call')
      throw new ShiftvolError(
        'SV_MESSAGE',
        `Cannot answer ${request.method} ${request.url}: there is POST /v1/call and GET /v1/health`,
      );
    // The engine looks at the shape: here it is only JSON.
    const asked = JSON.parse(await body(request)) as ApiRequest;
    send(response, 200, { result: await answer(engine, asked, signal) });
  } catch (thrown) {
    const error =
      thrown instanceof SyntaxError
        ? new ShiftvolError('SV_MESSAGE', 'Cannot read the request: it is not JSON', { cause: thrown })
        : asError(thrown);
    send(response, CODES[error.code].http, { error: report(thrown instanceof SyntaxError ? error : thrown) });
  }
}

async function body(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES)
      throw new ShiftvolError('SV_MESSAGE', `Cannot take the request: it is larger than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function send(response: ServerResponse, status: number, value: object): void {
  if (response.headersSent) return;
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}
