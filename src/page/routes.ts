/** What is answered below /page/: the page itself, what it shows, and, to whoever has the token, what it does. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError, CODES, report, ShiftvolError } from '../errors.ts';
import { jsonBody } from '../http/json-body.ts';
import type { Route } from '../http/listener.ts';
import { Assets, SAFE_HEADERS } from './assets.ts';
import { header, stream } from './client.ts';
import { DeadLetterDesk } from './dead-letters.ts';
import type { Feed } from './feed.ts';
import type { TemplateRow } from './rows.ts';
import type { PageSource } from './source.ts';
import type { OnceLink, Token } from './token.ts';

export type PageRoutesOptions = {
  readonly source: PageSource;
  readonly feed: Feed;
  /** Who has it may do something. */
  readonly token: Token;
  /** Set where looking, too, is for those who have the token; it is had for the link's secret, once. */
  readonly link?: OnceLink;
};

const MOST_WHO_LOOK = 32;
/** Extents of every image are looked at. */
const TEMPLATES_FRESH_MS = 15_000;
const TEMPLATES_MS = 20_000;

export function pageRoutes(options: PageRoutesOptions): readonly Route[] {
  const page = new Page(options);
  return [
    { method: 'GET', path: '/', handle: (_request, response, url) => page.root(response, url) },
    { method: 'GET', path: '/page/', handle: (request, response, url) => page.get(request, response, url) },
    { method: 'POST', path: '/page/', handle: (request, response, url) => page.post(request, response, url) },
  ];
}

class Page {
  readonly #options: PageRoutesOptions;
  readonly #assets = new Assets();
  readonly #desk: DeadLetterDesk | undefined;
  #templates: { readonly at: number; readonly rows: Promise<readonly TemplateRow[]> } | undefined;
  #looking = 0;

  constructor(options: PageRoutesOptions) {
    this.#options = options;
    const { deadLetters } = options.source;
    this.#desk = deadLetters && new DeadLetterDesk(deadLetters);
  }

  root(response: ServerResponse, { pathname }: URL): void {
    if (pathname === '/') response.writeHead(302, { location: '/page/', 'content-length': 0 }).end();
    else response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('there is nothing here\n');
  }

  async get(request: IncomingMessage, response: ServerResponse, { pathname }: URL): Promise<void> {
    for (const [name, value] of Object.entries(SAFE_HEADERS)) response.setHeader(name, value);
    const name = pathname.slice('/page/'.length);
    if (this.#assets.send(name === '' ? 'page.html' : name, request, response)) return;
    await this.#orError(response, async () => {
      if (this.#options.link && !this.#isAllowed(request)) throw notAllowed();
      if (name === 'events') return await this.#stream(request, response);
      if (name === 'templates') return json(response, 200, { templates: await this.#sharing() });
      if (name === 'dead-letters') return json(response, 200, { letters: (await this.#desk?.list()) ?? null });
      throw new NotHere();
    });
  }

  async post(request: IncomingMessage, response: ServerResponse, { pathname }: URL): Promise<void> {
    for (const [name, value] of Object.entries(SAFE_HEADERS)) response.setHeader(name, value);
    await this.#orError(response, async () => {
      requireOwnPage(request);
      const body = await jsonBody(request);
      const authorization = header(request, 'authorization');
      const what = pathname.slice('/page/'.length);
      if (what === 'session') {
        const token = this.#options.link?.redeem(authorization);
        if (token === undefined) throw notAllowed();
        return json(response, 200, { token });
      }
      if (!this.#isAllowed(request)) throw notAllowed();
      // Whether the token is right, before something is done with it.
      if (what === 'token') return json(response, 200, { accepted: true });
      const [, action] = /^dead-letters\/(replay|drop)$/.exec(what) ?? [];
      if ((action !== 'replay' && action !== 'drop') || !this.#desk) throw new NotHere();
      json(response, 200, await this.#desk.act(action, body));
    });
  }

  #isAllowed(request: IncomingMessage): boolean {
    return this.#options.token.isIn(header(request, 'authorization'));
  }

  async #stream(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method === 'HEAD') return json(response, 200, {});
    if (this.#looking >= MOST_WHO_LOOK)
      throw new ShiftvolError('SV_BUSY', `Cannot show the page: ${MOST_WHO_LOOK} look at it already`);
    this.#looking++;
    try {
      await stream(this.#options.feed, request, response);
    } finally {
      this.#looking--;
    }
  }

  #sharing(): Promise<readonly TemplateRow[]> {
    if (this.#templates && performance.now() - this.#templates.at < TEMPLATES_FRESH_MS) return this.#templates.rows;
    const rows = this.#options.source.templates(AbortSignal.timeout(TEMPLATES_MS));
    this.#templates = { at: performance.now(), rows };
    rows.catch(() => {
      this.#templates = undefined;
    });
    return rows;
  }

  async #orError(response: ServerResponse, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (response.headersSent) throw error;
      if (error instanceof NotHere) return json(response, 404, { error: { message: 'there is nothing here' } });
      if (error instanceof NotAllowed) {
        response.setHeader('www-authenticate', 'Bearer');
        return json(response, 401, { error: { message: 'the token is needed' } });
      }
      json(response, CODES[asError(error).code].http, { error: report(error) });
    }
  }
}

class NotHere extends Error {}
class NotAllowed extends Error {}
const notAllowed = (): NotAllowed => new NotAllowed();

/**
 * A page of somebody else may send a request here, but not one with this content type, nor from this origin, nor with the token.
 * @throws SV_MESSAGE
 */
function requireOwnPage(request: IncomingMessage): void {
  const wrong = (what: string) => {
    throw new ShiftvolError('SV_MESSAGE', `Cannot take the request: ${what}`);
  };
  const [type] = (header(request, 'content-type') ?? '').split(';');
  if (type?.trim().toLowerCase() !== 'application/json') wrong('its content type is not application/json');
  const [origin, host, site] = ['origin', 'host', 'sec-fetch-site'].map(name => header(request, name));
  if (site !== undefined && site !== 'same-origin') wrong('it comes from another site');
  // Programs say no origin; a page that posts always does. Behind a proxy that speaks TLS the scheme is another one.
  if (origin !== undefined && URL.parse(origin)?.host !== host) wrong('it comes from another origin');
}

function json(response: ServerResponse, status: number, value: object): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' });
  response.end(JSON.stringify(value));
}
