/** LXD's REST API (Incus speaks the same) over its unix socket: one function a kind of request, replies checked, no policy. */
import { Agent } from 'node:http';
import type { Got, Method } from 'got';
import { LxdError } from './lxd-error.ts';
import { findSocket, type SocketOptions } from './socket.ts';
import { isRecord, type ServerFacts, serverFacts } from './wire.ts';

export type Reply = { readonly metadata: unknown; readonly etag: string };
export type RequestOptions = {
  readonly body?: unknown;
  readonly etag?: string;
  readonly signal?: AbortSignal | undefined;
  /** For the operation to end. Default: a little less than one answer may take. */
  readonly waitMs?: number;
};

export type ClientOptions = SocketOptions & {
  /** For one answer. LXD mounts, unmounts and starts helper programs before it gives one. Default: 30 s. */
  readonly timeoutMs?: number;
};

/** An operation that has not ended. */
const RUNNING = 103;

export class LxdClient implements Disposable {
  readonly #options: ClientOptions;
  #connection: { readonly socketPath: string; readonly agent: Agent; readonly got: Got } | undefined;
  #server: ServerFacts | undefined;

  /** Connects at the first request, so that LXD may come up later than we do. */
  constructor(options: ClientOptions = {}) {
    this.#options = options;
  }

  [Symbol.dispose](): void {
    this.#connection?.agent.destroy();
    this.#connection = undefined;
    this.#server = undefined;
  }

  /** Where the socket is. @throws SV_RUNTIME: there is none */
  async socketPath(): Promise<string> {
    return (await this.#connect()).socketPath;
  }

  /** Name, version and abilities of the server; asked once a connection. */
  async server(signal?: AbortSignal): Promise<ServerFacts> {
    this.#server ??= serverFacts((await this.get('/1.0', signal)).metadata);
    return this.#server;
  }

  /** The process that answers just now; 0 where it does not say. Asked each time: it may have been restarted without our noticing. */
  async serverPid(signal?: AbortSignal): Promise<number> {
    this.#server = serverFacts((await this.get('/1.0', signal)).metadata);
    return this.#server.pid;
  }

  /** @throws LxdError: 404 where there is no such thing */
  async get(path: string, signal?: AbortSignal): Promise<Reply> {
    const { reply, etag } = await this.#request('GET', path, { signal });
    return { metadata: reply['metadata'], etag };
  }

  /**
   * Changes something, and waits for the end of the operation where LXD starts one.
   * @throws LxdError: 404; 412 where `etag` is not that of the present state
   */
  async change(method: 'PATCH' | 'PUT' | 'POST' | 'DELETE', path: string, options: RequestOptions): Promise<void> {
    const { reply } = await this.#request(method, path, options);
    if (reply['type'] !== 'async' || typeof reply['operation'] !== 'string') return;
    await this.#operation(reply['operation'], path, options);
  }

  /** The body as it is: a container's console, a log. @throws LxdError: 404 where there is no such thing */
  async text(path: string, signal?: AbortSignal): Promise<string> {
    const { statusCode, body } = await this.#send('GET', path, { signal });
    if (statusCode === 200) return body;
    const reply = parseJson(body);
    const words = isRecord(reply) && typeof reply['error'] === 'string' ? reply['error'] : '';
    throw new LxdError(statusCode, words === '' ? `HTTP status ${statusCode}` : words);
  }

  /** What a path in an instance is: `directory`, `file`, `symlink`; undefined where there is nothing. Opens nothing. */
  async fileType(path: string, signal?: AbortSignal): Promise<string | undefined> {
    const { statusCode, headers } = await this.#send('HEAD', path, { signal });
    if (statusCode === 404) return undefined;
    const type = headers['x-lxd-type'] ?? headers['x-incus-type'];
    if (statusCode === 200 && typeof type === 'string') return type;
    throw new LxdError(statusCode, `HEAD ${path}: HTTP status ${statusCode}`);
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? 30_000;
  }

  /** @throws LxdError with LXD's words, or that it is still running: then it goes on without us */
  async #operation(operation: string, path: string, { signal, waitMs }: RequestOptions): Promise<void> {
    // One answer waits less than a request may take, so that it is LXD that says so.
    const sliceMs = Math.max(1000, this.#timeoutMs - 2000);
    const limitMs = waitMs ?? sliceMs;
    const started = performance.now();
    for (;;) {
      const leftMs = limitMs - (performance.now() - started);
      const seconds = Math.max(1, Math.floor(Math.min(sliceMs, leftMs) / 1000));
      const { metadata } = await this.get(`${operation}/wait?timeout=${seconds}`, signal);
      if (!isRecord(metadata)) throw unreadable(path, metadata);
      const { status_code: status, err } = metadata;
      if (status === 200) return;
      const isOver = typeof err === 'string' && err !== '';
      if (!isOver && status === RUNNING && leftMs > sliceMs) continue;
      const words = isOver ? err : `it is still running after ${Math.round(limitMs / 1000)} s`;
      throw new LxdError(typeof status === 'number' ? status : 0, words);
    }
  }

  async #request(method: Method, path: string, options: RequestOptions) {
    const { statusCode, headers, body } = await this.#send(method, path, options);
    const reply = parseJson(body);
    if (!isRecord(reply)) throw unreadable(path, body);
    if (reply['type'] === 'error' || statusCode >= 400)
      throw new LxdError(statusCode, typeof reply['error'] === 'string' ? reply['error'] : `HTTP status ${statusCode}`);
    return { reply, etag: headers.etag ?? '' };
  }

  async #send(method: Method, path: string, { body, etag, signal }: RequestOptions) {
    signal?.throwIfAborted();
    const { got, socketPath } = await this.#connect();
    try {
      return await got(`http://lxd${path}`, {
        method,
        ...(body === undefined ? {} : { json: body }),
        ...(etag ? { headers: { 'if-match': etag } } : {}),
        ...(signal ? { signal } : {}),
      });
    } catch (cause) {
      signal?.throwIfAborted();
      const { name } = this.#server ?? { name: 'LXD' };
      // Another server may answer the next time: after an upgrade, or a snap's refresh.
      this[Symbol.dispose]();
      throw new LxdError(0, `Cannot talk to ${name} at ${socketPath}`, { remedy: 'see that its daemon runs', cause });
    }
  }

  /** got is loaded with the first request only: it takes 80 ms, which a command line that needs no LXD should not feel. */
  async #connect() {
    if (this.#connection) return this.#connection;
    const socketPath = await findSocket(this.#options);
    const { default: got } = await import('got');
    // Node's Agent takes it (and got's unix: URLs would not do for a path with a colon); its types do not know.
    const options = { keepAlive: true, socketPath };
    const agent = new Agent(options);
    this.#connection ??= {
      socketPath,
      agent,
      got: got.extend({
        agent: { http: agent },
        timeout: { request: this.#timeoutMs },
        retry: { limit: 0 },
        throwHttpErrors: false,
        followRedirect: false,
      }),
    };
    return this.#connection;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function unreadable(path: string, body: unknown): LxdError {
  return new LxdError(200, `Cannot read the answer to ${path}: ${JSON.stringify(body)?.slice(0, 200)}`);
}
