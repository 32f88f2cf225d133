/** Requests to a cloud's services, with a token that is renewed when it has to be. */
import type { Readable } from 'node:stream';
import type { Log } from '../log/log.ts';
import { readText } from './body.ts';
import { endpointOf, SERVICES, type ServiceType } from './catalog.ts';
import type { CloudConfig } from './cloud-config.ts';
import { Keystone, type Login } from './keystone.ts';
import { codeOf, OpenstackError, wordsOf } from './openstack-error.ts';
import { RETRY, type RetryPolicy } from './retry.ts';
import { redact } from './secret.ts';
import { pathOf, Sender } from './sender.ts';
import { type Exchange, type Method, Transport } from './transport.ts';

export type { ServiceType } from './catalog.ts';

export type SessionOptions = {
  readonly log?: Log | undefined;
  /** Whose token goes along as the service token: a user with the role "service". Services then permit what only services may. */
  readonly service?: CloudConfig | undefined;
  readonly retry?: Partial<RetryPolicy>;
  /** For proxies. Default: that of the process. */
  readonly env?: Readonly<Record<string, string | undefined>>;
};

export type CloudRequest = {
  readonly method: Method;
  /** Below the service's endpoint, version (and project) included there: `/images`. Parts that come from outside are encoded. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly body?: Readable;
  readonly headers?: Readonly<Record<string, string>>;
  readonly microversion?: string;
  /** Doing it twice is doing it once. Default: by the method; of a POST it is not. */
  readonly repeatable?: boolean;
  /** For the answer to begin. Default: 120 s: Cinder asks its drivers before it answers, and gives them 60 s. */
  readonly timeoutMs?: number;
  /** What it is for, in messages: `delete the attachment 4f…`. Default: method and path. */
  readonly purpose?: string;
};
export type CloudAnswer = {
  readonly status: number;
  /** What the JSON says; undefined where there is none. */
  readonly body: unknown;
  readonly requestId: string | undefined;
};

const TIMEOUT_MS = 120_000;

export class CloudSession implements Disposable {
  readonly cloud: CloudConfig;
  readonly log: Log | undefined;
  readonly retry: RetryPolicy;
  readonly #transports: readonly Transport[];
  readonly #sender: Sender;
  readonly #user: Keystone;
  readonly #service: Keystone | undefined;

  /** Logs in with the first request. @throws SV_CONFIG: a file of the TLS settings cannot be read */
  constructor(cloud: CloudConfig, options: SessionOptions = {}) {
    const { log, service, env = process.env } = options;
    const policy = { ...RETRY, ...options.retry };
    this.retry = policy;
    const transport = new Transport({ tls: cloud.tls, env });
    this.cloud = cloud;
    this.log = log;
    this.#sender = new Sender({ transport, policy, log });
    this.#user = new Keystone(cloud, this.#sender);
    const other = service && new Transport({ tls: service.tls, env });
    this.#transports = other ? [transport, other] : [transport];
    this.#service = service && other && new Keystone(service, new Sender({ transport: other, policy, log }));
  }

  [Symbol.dispose](): void {
    this.#user[Symbol.dispose]();
    this.#service?.[Symbol.dispose]();
    for (const transport of this.#transports) transport[Symbol.dispose]();
  }

  /** The project that the token is for. */
  async projectId(signal: AbortSignal): Promise<string | undefined> {
    return (await this.#user.login(signal)).projectId;
  }

  /**
   * Asks, and reads all of the answer.
   * @throws OpenstackError with status and the service's words; SV_OPENSTACK_AUTH, SV_OPENSTACK, SV_TIMEOUT; the signal's reason
   */
  async request(service: ServiceType, request: CloudRequest, signal: AbortSignal): Promise<CloudAnswer> {
    const { status, body, requestId } = await this.open(service, request, signal);
    const refuse = (words: string, cause?: unknown): never => {
      throw new OpenstackError('SV_OPENSTACK', `Cannot ${purposeOf(service, request)}: ${words}`, {
        status,
        requestId,
        cause,
      });
    };
    const text = await readText(body).catch(cause => {
      signal.throwIfAborted();
      return refuse('the answer breaks off', cause);
    });
    if (text === '') return { status, requestId, body: undefined };
    try {
      return { status, requestId, body: JSON.parse(text) };
    } catch {
      return refuse('the answer is not JSON');
    }
  }

  /** Asks, and leaves the body to be read or destroyed. The status is one of success. @throws as `request` */
  async open(service: ServiceType, request: CloudRequest, signal: AbortSignal): Promise<Exchange> {
    const first = await this.#logins(signal);
    const exchange = await this.#send(service, request, first, signal);
    if (exchange.status !== 401 || request.body !== undefined) return await this.#accept(service, request, exchange);
    // Ended or taken back before its time. Once: a service that does not like a new one either will not like the next.
    exchange.body.destroy();
    this.#user.forget(first.user);
    if (first.service) this.#service?.forget(first.service);
    return await this.#accept(service, request, await this.#send(service, request, await this.#logins(signal), signal));
  }

  async #logins(signal: AbortSignal): Promise<Logins> {
    const [user, service] = await Promise.all([this.#user.login(signal), this.#service?.login(signal)]);
    return { user, service };
  }

  async #send(service: ServiceType, request: CloudRequest, logins: Logins, signal: AbortSignal): Promise<Exchange> {
    const { method, path, query, json, body, microversion, timeoutMs = TIMEOUT_MS } = request;
    const search = query === undefined ? '' : `?${new URLSearchParams(query)}`;
    return await this.#sender.send(
      {
        service,
        method,
        url: `${endpointOf(service, this.cloud, logins.user)}${path}${search}`,
        ...(json === undefined ? {} : { json }),
        ...(body === undefined ? {} : { body }),
        repeatable: request.repeatable ?? method !== 'POST',
        timeoutMs,
        headers: {
          accept: 'application/json',
          ...request.headers,
          'x-auth-token': logins.user.token.reveal(),
          ...(logins.service && { 'x-service-token': logins.service.token.reveal() }),
          ...(microversion !== undefined && { 'openstack-api-version': `${SERVICES[service].api} ${microversion}` }),
        },
      },
      signal,
    );
  }

  async #accept(service: ServiceType, request: CloudRequest, exchange: Exchange): Promise<Exchange> {
    const { status, requestId, headers } = exchange;
    if (status >= 200 && status < 300) return exchange;
    const text = await readText(exchange.body).catch(() => '');
    const secrets = [...this.#user.secrets, ...(this.#service?.secrets ?? [])];
    const words =
      status >= 300 && status < 400
        ? `it answers with a redirection (${status}) to ${redact(String(headers.location ?? 'nowhere'))}, which is not followed`
        : redact(wordsOf(text) ?? `HTTP status ${status}`, secrets);
    throw new OpenstackError(codeOf(status), `Cannot ${purposeOf(service, request)}: ${words}`, {
      status,
      requestId,
      ...remedyOf(status, service),
    });
  }
}

type Logins = { readonly user: Login; readonly service: Login | undefined };

function purposeOf(service: ServiceType, { purpose, method, path }: CloudRequest): string {
  return purpose ?? `${method} ${pathOf(`http://x${path}`)} of the ${service} service`;
}

function remedyOf(status: number, service: ServiceType): { readonly remedy?: string } {
  if (status >= 300 && status < 400) return { remedy: 'correct the endpoint in the catalogue or in clouds.yaml' };
  if (status === 403)
    return { remedy: 'give the user of clouds.yaml the role that the policy of the service asks for' };
  if (status === 406) return { remedy: `the ${service} service is too old for what is asked of it` };
  return {};
}
