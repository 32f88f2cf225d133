/** Stands between a client and a real OpenStack, and keeps what both say, without what is secret in it. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import got, { type Method } from 'got';
import {
  ANSWER_HEADERS,
  type Exchange,
  ORIGIN,
  PREFIXES,
  type Prefix,
  REQUEST_HEADERS,
} from '../integration/openstack/conversation.ts';

export type Bases = Readonly<Record<Prefix, string>>;
/** Texts that must not get into a file, or that are of this machine alone, and what stands in their place. */
export type Replacements = ReadonlyMap<string, string>;

export class Recorder implements AsyncDisposable {
  readonly exchanges: Exchange[] = [];
  readonly #bases: Bases;
  readonly #replacements: Map<string, string>;
  readonly #server: Server;
  #tokens = 0;
  /** The newest that was given to the client. */
  token = '';

  private constructor(bases: Bases, replacements: Replacements) {
    this.#bases = bases;
    this.#replacements = new Map(replacements);
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  static async start(bases: Bases, replacements: Replacements): Promise<Recorder> {
    const recorder = new Recorder(bases, replacements);
    recorder.#server.listen(0, '127.0.0.1');
    await once(recorder.#server, 'listening');
    return recorder;
  }

  get origin(): string {
    const { port } = this.#server.address() as AddressInfo; // it listens on TCP
    return `http://127.0.0.1:${port}`;
  }

  /** From now on this is not written. */
  hide(text: string, as: string): void {
    this.#replacements.set(text, as);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const [, prefix = '', rest = ''] = /^\/(\w+)(\/.*)$/.exec(request.url ?? '') ?? [];
    const base = this.#bases[PREFIXES.find(p => p === prefix) ?? 'identity'];
    const { host: _, 'content-length': __, 'transfer-encoding': ___, ...headers } = request.headers;
    const answer = await got(`${base}${rest}`, {
      method: (request.method ?? 'GET') as Method, // what came in is one
      headers,
      ...(body.length > 0 && { body }),
      decompress: false,
      responseType: 'buffer',
      throwHttpErrors: false,
      followRedirect: false,
      retry: { limit: 0 },
    });
    const isText = /json|text/.test(answer.headers['content-type'] ?? '');
    const told = isText ? Buffer.from(this.#redirected(answer.body.toString())) : answer.body;
    this.#keep(request, body, answer.statusCode, answer.headers, told, isText);
    const { 'transfer-encoding': ____, connection: _____, ...sent } = answer.headers;
    response.writeHead(answer.statusCode, {
      ...sent,
      ...(answer.statusCode !== 204 && { 'content-length': told.length }),
    });
    response.end(told);
  }

  #keep(
    request: IncomingMessage,
    body: Buffer,
    status: number,
    headers: IncomingMessage['headers'],
    told: Buffer,
    isText: boolean,
  ): void {
    const token = headers['x-subject-token'];
    if (typeof token === 'string') this.token = token;
    if (typeof token === 'string' && !this.#replacements.has(token)) this.hide(token, `token-${++this.#tokens}`);
    const isJson = request.headers['content-type']?.startsWith('application/json') ?? false;
    const kept = (from: IncomingMessage['headers'], names: readonly string[]) =>
      Object.fromEntries(names.flatMap(n => (from[n] === undefined ? [] : [[n, this.#clean(String(from[n]))]])));
    this.exchanges.push({
      method: request.method ?? '',
      path: this.#clean(request.url ?? ''),
      headers: {
        ...kept(request.headers, REQUEST_HEADERS),
        ...('x-service-token' in request.headers && { 'x-service-token': 'given' }),
      },
      ...(isJson && { json: JSON.parse(this.#clean(body.toString())) }),
      answer: {
        status,
        headers: kept(headers, ANSWER_HEADERS),
        ...(isText ? { text: this.#clean(told.toString()) } : { base64: told.toString('base64') }),
      },
    });
  }

  /** The catalogue's addresses become ours. */
  #redirected(text: string): string {
    return PREFIXES.reduce((t, prefix) => t.replaceAll(this.#bases[prefix], `${this.origin}/${prefix}`), text);
  }

  #clean(text: string): string {
    // Of this machine alone.
    const place = /(mount_point_base\\?":\s*\\?")[^"\\]+/g;
    let clean = text.replaceAll(this.origin, ORIGIN).replaceAll(place, '$1/srv/cinder');
    for (const [from, to] of this.#replacements) clean = clean.replaceAll(from, to);
    return clean;
  }
}
