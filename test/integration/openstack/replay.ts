/** Answers as a real OpenStack did, from a recorded conversation; what could not be recorded is put in its way by `trouble`. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Exchange, ORIGIN, type PREFIXES, readConversation } from './conversation.ts';

export type Asked = {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
};
/** `cutAfter`: the connection breaks after so many bytes of the body. `reset`: it breaks before any answer. */
export type Trouble =
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string }
  | { readonly cutAfter: number }
  | { readonly body: Buffer }
  | { readonly withoutRanges: true }
  | 'reset';
/** Asked before the recording is. `times`: how often this method and path were asked before. Undefined: as it was recorded. */
export type MakeTrouble = (asked: Asked, times: number) => Trouble | undefined;

export class Replay implements AsyncDisposable {
  readonly asked: Asked[] = [];
  /** That were opened, since the start. */
  connections = 0;
  readonly #exchanges: Exchange[];
  readonly #trouble: MakeTrouble;
  readonly #server: Server;
  readonly #unexpected: string[] = [];

  private constructor(exchanges: readonly Exchange[], trouble: MakeTrouble) {
    this.#exchanges = [...exchanges];
    this.#trouble = trouble;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.on('connection', () => this.connections++);
  }

  static async start(names: readonly string[], trouble: MakeTrouble = () => undefined): Promise<Replay> {
    const exchanges = names.flatMap(name => readConversation(name).exchanges);
    const replay = new Replay(exchanges, trouble);
    replay.#server.listen(0, '127.0.0.1');
    await once(replay.#server, 'listening');
    return replay;
  }

  get origin(): string {
    const { port } = this.#server.address() as AddressInfo; // it listens on TCP
    return `http://127.0.0.1:${port}`;
  }

  /** What the client's environment has to be. */
  get env(): Readonly<Record<string, string>> {
    return {
      OS_AUTH_URL: `${this.origin}/identity/v3`,
      OS_USERNAME: 'admin',
      OS_PASSWORD: 'demo-password',
      OS_PROJECT_NAME: 'demo',
      OS_REGION_NAME: 'RegionOne',
    };
  }

  count(method: string, path: RegExp): number {
    return this.asked.filter(a => a.method === method && path.test(a.path)).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
    assert.deepEqual(this.#unexpected, [], 'requests that the recording does not have');
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch (error) {
      if (request.destroyed) return; // The client went away in the middle: some tests are about that.
      throw error;
    }
    const asked = {
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      body: Buffer.concat(chunks),
    };
    const times = this.asked.filter(a => a.method === asked.method && a.path === asked.path).length;
    this.asked.push(asked);
    const trouble = this.#trouble(asked, times);
    if (trouble === 'reset') return void request.socket.resetAndDestroy();
    if (trouble && 'status' in trouble) {
      response.writeHead(trouble.status, { 'x-openstack-request-id': 'req-trouble', ...trouble.headers });
      return void response.end(trouble.body ?? '');
    }
    const found = this.#find(trouble && 'withoutRanges' in trouble ? { ...asked, headers: {} } : asked);
    if (!found) {
      this.#unexpected.push(`${asked.method} ${asked.path} ${asked.headers.range ?? ''} ${shape(asked)}`);
      response.writeHead(599);
      return void response.end();
    }
    const { status, headers, text, base64 } = found.answer;
    const recorded = base64 === undefined ? Buffer.from(this.#filled(text ?? '')) : Buffer.from(base64, 'base64');
    const body = trouble && 'body' in trouble && trouble.body instanceof Buffer ? trouble.body : recorded;
    const filled = Object.entries(headers).map(([key, value]) => [key, this.#filled(value)]);
    response.writeHead(status, {
      ...Object.fromEntries(filled),
      ...(status !== 204 && { 'content-length': body.length }),
    });
    if (!trouble || !('cutAfter' in trouble)) return void response.end(body);
    response.write(body.subarray(0, trouble.cutAfter), () => response.destroy());
  }

  /** The first of its kind that was not given yet; the last stays, for whoever asks again. */
  #find(asked: Asked): Exchange | undefined {
    const isIt = (e: Exchange): boolean =>
      e.method === asked.method &&
      e.path === asked.path &&
      (e.headers['range'] ?? '') === (asked.headers.range ?? '') &&
      (e.json === undefined || said(JSON.stringify(e.json), e.path) === said(shape(asked), e.path));
    const all = this.#exchanges.filter(isIt);
    const [first] = all;
    if (first && all.length > 1) this.#exchanges.splice(this.#exchanges.indexOf(first), 1);
    return first;
  }

  #filled(text: string): string {
    return text.replaceAll(ORIGIN, this.origin);
  }
}

function shape({ headers, body }: Asked): string {
  return headers['content-type']?.startsWith('application/json') ? JSON.stringify(JSON.parse(body.toString())) : '';
}

/** Of a login only whose it is: its secrets are not those that were recorded. */
function said(json: string, path: string): string {
  return path.startsWith('/identity') ? (/"user":{"name":"[^"]*"/.exec(json)?.[0] ?? '') : json;
}

export const isFor = (prefix: (typeof PREFIXES)[number], { path }: Asked): boolean => path.startsWith(`/${prefix}/`);
