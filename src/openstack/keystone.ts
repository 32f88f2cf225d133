/** A token of Keystone v3, kept until shortly before it ends. */
import { z } from 'zod';
import { readText } from './body.ts';
import { type Catalog, catalogShape } from './catalog.ts';
import type { Auth, CloudConfig, Domain, Scope } from './cloud-config.ts';
import { OpenstackError, wordsOf } from './openstack-error.ts';
import { redact, Secret } from './secret.ts';
import type { Sender, Sending } from './sender.ts';
import type { Exchange } from './transport.ts';

export type Login = {
  readonly token: Secret;
  readonly catalog: Catalog;
  readonly projectId: string | undefined;
  /** On this process's own clock (performance.now), so that a host whose time is wrong does not matter. */
  readonly renewAt: number;
};

const TIMEOUT_MS = 60_000;
/** A request that takes long must not outlive its token: renewed so long before the end, or a tenth of its life. */
const MARGIN_MS = 120_000;

const answerShape = z.looseObject({
  token: z.looseObject({
    issued_at: z.string(),
    expires_at: z.string(),
    project: z.looseObject({ id: z.string() }).nullish(),
    catalog: catalogShape.default([]),
  }),
});

export class Keystone implements Disposable {
  readonly #cloud: CloudConfig;
  readonly #sender: Sender;
  readonly #stop = new AbortController();
  #login: Login | undefined;
  #pending: Promise<Login> | undefined;

  constructor(cloud: CloudConfig, sender: Sender) {
    this.#cloud = cloud;
    this.#sender = sender;
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
    this.#login = undefined;
  }

  /** All who ask at the same time get the same one, whoever of them stops waiting. @throws SV_OPENSTACK_AUTH, SV_OPENSTACK */
  async login(signal: AbortSignal): Promise<Login> {
    signal.throwIfAborted();
    if (this.#login && performance.now() < this.#login.renewAt) return this.#login;
    this.#pending ??= this.#authenticate().finally(() => {
      this.#pending = undefined;
    });
    return await untilAborted(this.#pending, signal);
  }

  /** A service did not accept it (any more): the next login is a new one. */
  forget(login: Login): void {
    if (this.#login === login) this.#login = undefined;
  }

  /** What must not be shown, wherever it comes back. */
  get secrets(): readonly Secret[] {
    return [...secretsOf(this.#cloud.auth), ...(this.#login ? [this.#login.token] : [])];
  }

  async #authenticate(): Promise<Login> {
    const exchange = await this.#sender.send(tokenRequest(this.#cloud), this.#stop.signal);
    const text = await readText(exchange.body).catch(cause => {
      throw this.#refusal(exchange, 'its answer breaks off', cause);
    });
    if (exchange.status !== 200 && exchange.status !== 201)
      throw this.#refusal(exchange, wordsOf(text) ?? `HTTP status ${exchange.status}`);
    const answer = answerShape.safeParse(parseJson(text));
    const given = exchange.headers['x-subject-token'];
    const token = typeof given === 'string' ? given : ownToken(this.#cloud.auth);
    if (!answer.success || token === undefined) throw this.#refusal(exchange, 'its answer is not that of Keystone v3');
    const { issued_at, expires_at, catalog, project } = answer.data.token;
    const lifeMs = Date.parse(expires_at) - Date.parse(issued_at);
    if (!(lifeMs > 0)) throw this.#refusal(exchange, 'its token has ended when it begins');
    const login = {
      token: new Secret(token),
      catalog,
      projectId: project?.id,
      renewAt: performance.now() + lifeMs - Math.min(MARGIN_MS, lifeMs / 10),
    };
    this.#login = login;
    return login;
  }

  #refusal({ status, requestId }: Exchange, words: string, cause?: unknown): OpenstackError {
    const { name, source, authUrl, auth } = this.#cloud;
    const refused = status === 401 || status === 403 || status === 400 || status === 404;
    return new OpenstackError(
      refused ? 'SV_OPENSTACK_AUTH' : 'SV_OPENSTACK',
      `Cannot log in to the cloud "${name}" at ${redact(authUrl)} by ${auth.method.replace('_', ' ')}: ${redact(words, this.secrets)}`,
      {
        status,
        requestId,
        ...(refused && {
          field: 'auth',
          remedy: `see that ${source} has what Keystone knows, and that it has not ended`,
        }),
        cause,
      },
    );
  }
}

/** A token without a scope is looked up as it is: where scoping again is forbidden that still works. */
function tokenRequest({ authUrl, auth }: CloudConfig): Sending {
  const url = `${authUrl}/auth/tokens`;
  // Asking for a token twice makes two, and leaves nothing to be undone.
  const common = { service: 'identity', url, repeatable: true, timeoutMs: TIMEOUT_MS } as const;
  if (auth.method === 'token' && auth.scope === undefined) {
    const token = auth.token.reveal();
    return { ...common, method: 'GET', headers: { 'x-auth-token': token, 'x-subject-token': token } };
  }
  return { ...common, method: 'POST', headers: {}, json: { auth: { identity: identityOf(auth), ...scopeOf(auth) } } };
}

function identityOf(auth: Auth): object {
  switch (auth.method) {
    case 'password':
      return {
        methods: ['password'],
        password: { user: { ...userOf(auth.user), password: auth.password.reveal() } },
      };
    case 'application_credential': {
      const { credential, secret } = auth;
      const named = 'id' in credential ? credential : { name: credential.name, user: userOf(credential.user) };
      return { methods: ['application_credential'], application_credential: { ...named, secret: secret.reveal() } };
    }
    case 'token':
      return { methods: ['token'], token: { id: auth.token.reveal() } };
    default:
      return auth satisfies never;
  }
}

type Named = { readonly id: string } | { readonly name: string; readonly domain: Domain };
const userOf = (user: Named): object => user;

/** An application credential has its project in it. */
function scopeOf(auth: Auth): { readonly scope?: object } {
  if (auth.method === 'application_credential' || auth.scope === undefined) return {};
  return { scope: scopeBody(auth.scope) };
}

function scopeBody(scope: Scope): object {
  switch (scope.kind) {
    case 'project':
      return { project: scope.project };
    case 'domain':
      return { domain: scope.domain };
    case 'system':
      return { system: { all: true } };
    default:
      return scope satisfies never;
  }
}

function secretsOf(auth: Auth): readonly Secret[] {
  switch (auth.method) {
    case 'password':
      return [auth.password];
    case 'application_credential':
      return [auth.secret];
    case 'token':
      return [auth.token];
    default:
      return auth satisfies never;
  }
}

function ownToken(auth: Auth): string | undefined {
  return auth.method === 'token' && auth.scope === undefined ? auth.token.reveal() : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
