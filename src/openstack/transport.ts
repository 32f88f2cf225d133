/** One HTTP exchange: TLS, proxies, timeouts, and errors with nothing secret in them. No policy. */
import { readFileSync } from 'node:fs';
import { Agent as HttpAgent, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Readable } from 'node:stream';
import got, { RequestError, TimeoutError } from 'got';
import { ShiftvolError } from '../errors.ts';
import type { CloudConfig } from './cloud-config.ts';
import type { Trouble } from './retry.ts';
import { redact } from './secret.ts';

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type Outgoing = {
  readonly method: Method;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly json?: unknown;
  /** Sent as it comes, and destroyed with the exchange. */
  readonly body?: Readable;
  /** For the answer to begin, once the request is sent. */
  readonly timeoutMs: number;
};
export type Exchange = {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  /** The service's id of this request. */
  readonly requestId: string | undefined;
  /** Read it to its end, or destroy it. */
  readonly body: Readable;
};

/** There was no answer, or it broke off. */
export class NoAnswer extends Error {
  readonly trouble: Trouble;
  constructor(message: string, trouble: Trouble) {
    super(message);
    this.name = 'NoAnswer';
    this.trouble = trouble;
  }
}

const CONNECT_TIMEOUT_MS = 10_000;
/** Between two packets of a body. */
const IDLE_TIMEOUT_MS = 60_000;
const MAX_SOCKETS = 32;

export type TransportOptions = {
  readonly tls: CloudConfig['tls'];
  /** For HTTP_PROXY, HTTPS_PROXY and NO_PROXY. */
  readonly env: Readonly<Record<string, string | undefined>>;
};

export class Transport implements Disposable {
  readonly #http: HttpAgent;
  readonly #https: HttpsAgent;

  /** @throws SV_CONFIG: a file of `tls` cannot be read */
  constructor({ tls, env }: TransportOptions) {
    const { HTTP_PROXY, HTTPS_PROXY, NO_PROXY, http_proxy, https_proxy, no_proxy } = env;
    const proxyEnv = { HTTP_PROXY, HTTPS_PROXY, NO_PROXY, http_proxy, https_proxy, no_proxy };
    const common = { keepAlive: true, maxSockets: MAX_SOCKETS, proxyEnv };
    this.#http = new HttpAgent(common);
    this.#https = new HttpsAgent({
      ...common,
      rejectUnauthorized: tls.verify,
      ...(tls.ca !== undefined && { ca: pem(tls.ca, 'cacert') }),
      ...(tls.cert !== undefined && { cert: pem(tls.cert, 'cert'), key: pem(tls.key ?? tls.cert, 'key') }),
    });
  }

  [Symbol.dispose](): void {
    this.#http.destroy();
    this.#https.destroy();
  }

  /**
   * Redirects are not followed: the token would go wherever they point.
   * @throws NoAnswer; the signal's reason
   */
  async send(out: Outgoing, signal: AbortSignal): Promise<Exchange> {
    signal.throwIfAborted();
    const { method, url, headers, json, body, timeoutMs } = out;
    const request = got.stream(url, {
      method,
      headers: { 'accept-encoding': 'identity', ...headers },
      ...(json === undefined ? {} : { json }),
      ...(body === undefined ? {} : { body }),
      agent: { http: this.#http, https: this.#https },
      signal,
      decompress: false,
      followRedirect: false,
      throwHttpErrors: false,
      retry: { limit: 0 },
      timeout: {
        lookup: CONNECT_TIMEOUT_MS,
        connect: CONNECT_TIMEOUT_MS,
        secureConnect: CONNECT_TIMEOUT_MS,
        response: timeoutMs,
        socket: Math.max(IDLE_TIMEOUT_MS, timeoutMs),
      },
    });
    // Without a body got waits for one to be written.
    if (json === undefined && body === undefined && method !== 'GET' && method !== 'HEAD') request.end();
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      // Stays, since an error that comes while nobody reads must not end the process.
      request.on('error', error => reject(signal.aborted ? signal.reason : withoutSecrets(error)));
    });
    return {
      status: response.statusCode ?? 0,
      headers: response.headers,
      requestId: requestIdOf(response),
      body: request,
    };
  }
}

/** An error of a body that is being read, or of a connection, without got's own facts: those hold headers, and tokens in them. */
export function withoutSecrets(error: unknown): NoAnswer {
  if (error instanceof NoAnswer) return error;
  const message = redact(error instanceof Error ? error.message : String(error)).slice(0, 300);
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'UNKNOWN';
  const phase = error instanceof TimeoutError ? error.event : undefined;
  return new NoAnswer(error instanceof RequestError && message === '' ? code : message, { code, phase });
}

function requestIdOf({ headers }: IncomingMessage): string | undefined {
  const id = headers['x-openstack-request-id'] ?? headers['x-compute-request-id'];
  return typeof id === 'string' && /^[\w.-]{1,100}$/.test(id) ? id : undefined;
}

function pem(file: string, field: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new ShiftvolError('SV_CONFIG', `Cannot read "${file}"`, { field, remedy: 'name a file in PEM form', cause });
  }
}
