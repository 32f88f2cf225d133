/** The services' REST APIs as the cloud's administrator: what a scripted client uses. */
import got, { HTTPError, type Method, type Response } from 'got';
import { ADDRESS, type CloudSettings, keystoneUrl, PASSWORD, portOf } from './settings.ts';

export type Json = { readonly [key: string]: unknown };
export type ServiceName = 'keystone' | 'nova' | 'glance' | 'cinder' | 'placement';
export type Request = {
  readonly json?: object | null;
  readonly body?: Buffer | import('node:stream').Readable;
  readonly headers?: Readonly<Record<string, string>>;
};

/** New enough for `networks: none`, attachments by PUT, and hostname. */
const VERSIONS = {
  keystone: {},
  nova: { 'OpenStack-API-Version': 'compute 2.93' },
  glance: {},
  cinder: { 'OpenStack-API-Version': 'volume 3.70' },
  placement: { 'OpenStack-API-Version': 'placement 1.39' },
} as const satisfies Record<ServiceName, Record<string, string>>;

export class ApiError extends Error {
  readonly status: number;
  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

export class CloudApi {
  readonly #settings: CloudSettings;
  #token: Promise<{ readonly token: string; readonly projectId: string }> | undefined;

  constructor(settings: CloudSettings) {
    this.#settings = settings;
  }

  async get(service: ServiceName, path: string, request?: Request): Promise<Json> {
    return await this.call(service, 'GET', path, request);
  }

  async post(service: ServiceName, path: string, json: object, request?: Request): Promise<Json> {
    return await this.call(service, 'POST', path, { json, ...request });
  }

  async put(service: ServiceName, path: string, request: Request): Promise<Json> {
    return await this.call(service, 'PUT', path, request);
  }

  async delete(service: ServiceName, path: string): Promise<Json> {
    return await this.call(service, 'DELETE', path);
  }

  /** The answer's JSON; {} where there is none. @throws ApiError with the service's own words */
  async call(service: ServiceName, method: Method, path: string, request: Request = {}): Promise<Json> {
    const { body } = await this.#send(service, method, path, request);
    return body === '' || !body.startsWith('{') ? {} : JSON.parse(body);
  }

  /** 404 is no failure here. */
  async exists(service: ServiceName, path: string): Promise<boolean> {
    try {
      await this.call(service, 'GET', path);
      return true;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return false;
      throw error;
    }
  }

  async download(path: string): Promise<Buffer> {
    const { token } = await this.#session();
    return await got(`http://${ADDRESS}:${portOf(this.#settings, 'glance')}${path}`, {
      headers: { 'X-Auth-Token': token },
      retry: { limit: 0 },
    }).buffer();
  }

  async #send(service: ServiceName, method: Method, path: string, request: Request): Promise<Response<string>> {
    const { token, projectId } = await this.#session();
    const base = { keystone: '/v3', nova: '/v2.1', glance: '/v2', cinder: `/v3/${projectId}`, placement: '' }[service];
    try {
      return await got(`http://${ADDRESS}:${portOf(this.#settings, service)}${base}${path}`, {
        method,
        ...(request.json === undefined ? {} : { json: request.json }),
        ...(request.body === undefined ? {} : { body: request.body }),
        headers: { 'X-Auth-Token': token, ...VERSIONS[service], ...request.headers },
        retry: { limit: 0 },
        timeout: { request: 120_000 },
      });
    } catch (error) {
      if (!(error instanceof HTTPError)) throw error;
      const words = String(error.response.body).slice(0, 500);
      throw new ApiError(
        `${method} ${service} ${path}: ${error.response.statusCode} ${words}`,
        error.response.statusCode,
      );
    }
  }

  async #session(): Promise<{ readonly token: string; readonly projectId: string }> {
    this.#token ??= signIn(this.#settings).catch(error => {
      this.#token = undefined; // Keystone may not be up yet
      throw error;
    });
    return await this.#token;
  }
}

async function signIn(settings: CloudSettings): Promise<{ readonly token: string; readonly projectId: string }> {
  const domain = { id: 'default' };
  const { headers, body } = await got.post<{ readonly token: { readonly project: { readonly id: string } } }>(
    `${keystoneUrl(settings)}/auth/tokens`,
    {
      json: {
        auth: {
          identity: { methods: ['password'], password: { user: { name: 'admin', domain, password: PASSWORD } } },
          scope: { project: { name: 'admin', domain } },
        },
      },
      responseType: 'json',
      retry: { limit: 0 },
    },
  );
  return { token: String(headers['x-subject-token']), projectId: body.token.project.id };
}
