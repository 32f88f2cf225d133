/** One cloud's keys, as clouds.yaml or OS_* have them, checked. */
import { z } from 'zod';
import { ShiftvolError } from '../errors.ts';
import { Secret } from './secret.ts';

export type Interface = 'public' | 'internal' | 'admin';
type Named = { readonly id: string } | { readonly name: string; readonly domain: Domain };
export type Domain = { readonly id: string } | { readonly name: string };
/** What a token is good for. Without one it is the user's default project. */
export type Scope =
  | { readonly kind: 'project'; readonly project: Named }
  | { readonly kind: 'domain'; readonly domain: Domain }
  | { readonly kind: 'system' };
export type Auth =
  | { readonly method: 'password'; readonly user: Named; readonly password: Secret; readonly scope?: Scope }
  | {
      readonly method: 'application_credential';
      readonly credential: { readonly id: string } | { readonly name: string; readonly user: Named };
      readonly secret: Secret;
    }
  | { readonly method: 'token'; readonly token: Secret; readonly scope?: Scope };

export type CloudConfig = {
  readonly name: string;
  /** Where it is written, for messages. */
  readonly source: string;
  /** Keystone, with its `/v3`. */
  readonly authUrl: string;
  readonly auth: Auth;
  readonly interface: Interface;
  readonly region?: string;
  /** Endpoints that go before the catalogue's, by service type with `_`: `block_storage`, `image`. */
  readonly endpoints: ReadonlyMap<string, string>;
  /** Files in PEM form. `ca` takes the place of the system's. */
  readonly tls: { readonly verify: boolean; readonly ca?: string; readonly cert?: string; readonly key?: string };
};

const text = z.preprocess(v => (typeof v === 'number' ? String(v) : v), z.string().min(1));
const optional = text.optional();
const authKeys = {
  auth_url: optional,
  username: optional,
  user_id: optional,
  password: optional,
  token: optional,
  project_name: optional,
  project_id: optional,
  tenant_name: optional,
  tenant_id: optional,
  user_domain_name: optional,
  user_domain_id: optional,
  project_domain_name: optional,
  project_domain_id: optional,
  default_domain: optional,
  default_domain_id: optional,
  default_domain_name: optional,
  domain_name: optional,
  domain_id: optional,
  system_scope: optional,
  application_credential_id: optional,
  application_credential_name: optional,
  application_credential_secret: optional,
};
const authShape = z.looseObject(authKeys);
type AuthKeys = z.output<typeof authShape>;
const flag = z.preprocess(
  v => (typeof v === 'string' && /^(true|false|1|0|yes|no)$/i.test(v) ? /^(true|1|yes)$/i.test(v) : v),
  z.boolean(),
);
const shape = z.looseObject({
  auth: authShape.default({}),
  auth_type: optional,
  identity_api_version: z.preprocess(v => (v === undefined ? v : String(v)), z.string().optional()),
  region_name: optional,
  interface: optional,
  endpoint_type: optional,
  verify: flag.optional(),
  insecure: flag.optional(),
  cacert: optional,
  cert: optional,
  key: optional,
});

/** @throws SV_CONFIG naming `source`, the cloud and the key */
export function readCloud(name: string, given: Record<string, unknown>, source: string): CloudConfig {
  const refuse = (key: string, is: string, remedy?: string): never => {
    throw new ShiftvolError('SV_CONFIG', `Cannot use the cloud "${name}" of ${source}: "${key}": ${is}`, {
      field: key,
      ...(remedy === undefined ? {} : { remedy }),
    });
  };
  // Keys of `auth` may also stand beside it, and do so in OS_* variables.
  const beside = Object.fromEntries(Object.entries(given).filter(([key]) => Object.hasOwn(authKeys, key)));
  const inner = given['auth'] ?? {};
  const parsed = shape.safeParse({ ...given, auth: typeof inner === 'object' ? { ...beside, ...inner } : inner });
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return refuse(issue?.path.join('.') ?? '', 'a text that is not empty is accepted');
  }
  const cloud = parsed.data;
  if (cloud.identity_api_version !== undefined && !/^v?3(\.\d+)?$/.test(cloud.identity_api_version))
    refuse('identity_api_version', `${cloud.identity_api_version}, 3 is accepted`);
  const authUrl = cloud.auth.auth_url ?? refuse('auth_url', 'nothing, the URL of Keystone is required');
  if (!isHttp(authUrl)) refuse('auth_url', 'an http or https URL is accepted');
  const asked = (cloud.interface ?? cloud.endpoint_type ?? 'public').replace(/URL$/, '');
  const face = (['public', 'internal', 'admin'] as const).find(i => i === asked);
  if (face === undefined) return refuse('interface', `"${asked}", public, internal or admin is accepted`);
  return {
    name,
    source,
    authUrl: `${authUrl.replace(/\/+(?:v[23](?:\.0)?\/*)?$/, '').replace(/\/v[23](?:\.0)?$/, '')}/v3`,
    auth: readAuth(cloud.auth_type, cloud.auth, refuse),
    interface: face,
    ...(cloud.region_name !== undefined && { region: cloud.region_name }),
    endpoints: readEndpoints(given, refuse),
    tls: {
      verify: cloud.verify ?? !(cloud.insecure ?? false),
      ...(cloud.cacert !== undefined && { ca: cloud.cacert }),
      ...(cloud.cert !== undefined && { cert: cloud.cert }),
      ...(cloud.key !== undefined && { key: cloud.key }),
    },
  };
}

type Refuse = (key: string, is: string, remedy?: string) => never;

function readAuth(type: string | undefined, a: AuthKeys, refuse: Refuse): Auth {
  const method = (type ?? guessType(a)).replace(/^v3/, '').replaceAll('_', '');
  switch (method) {
    case 'password': {
      const password = a.password ?? refuse('password', 'nothing, it is required');
      return { method, user: userOf(a, refuse), password: new Secret(password), ...scopeOf(a) };
    }
    case 'token': {
      const token = a.token ?? refuse('token', 'nothing, it is required');
      return { method, token: new Secret(token), ...scopeOf(a) };
    }
    case 'applicationcredential': {
      const secret =
        a.application_credential_secret ?? refuse('application_credential_secret', 'nothing, it is required');
      const id = a.application_credential_id;
      const name = a.application_credential_name ?? '';
      if (id === undefined && name === '') refuse('application_credential_id', 'nothing, it is required');
      const credential = id === undefined ? { name, user: userOf(a, refuse) } : { id };
      return { method: 'application_credential', credential, secret: new Secret(secret) };
    }
    default:
      return refuse('auth_type', `"${type}", v3password, v3applicationcredential or v3token is accepted`);
  }
}

function guessType(a: AuthKeys): string {
  if (a.application_credential_secret !== undefined) return 'v3applicationcredential';
  return a.token !== undefined && a.password === undefined ? 'v3token' : 'v3password';
}

function userOf(a: AuthKeys, refuse: Refuse): Named {
  if (a.user_id !== undefined) return { id: a.user_id };
  const name = a.username ?? refuse('username', 'nothing, it or user_id is required');
  return { name, domain: domainOf(a.user_domain_id, a.user_domain_name, a) };
}

function scopeOf(a: AuthKeys): { readonly scope?: Scope } {
  if (a.system_scope !== undefined) return { scope: { kind: 'system' } };
  const [id, name] = [a.project_id ?? a.tenant_id, a.project_name ?? a.tenant_name];
  if (id !== undefined) return { scope: { kind: 'project', project: { id } } };
  if (name !== undefined)
    return {
      scope: { kind: 'project', project: { name, domain: domainOf(a.project_domain_id, a.project_domain_name, a) } },
    };
  if (a.domain_id !== undefined) return { scope: { kind: 'domain', domain: { id: a.domain_id } } };
  if (a.domain_name !== undefined) return { scope: { kind: 'domain', domain: { name: a.domain_name } } };
  return {};
}

function domainOf(id: string | undefined, name: string | undefined, a: AuthKeys): Domain {
  if (id !== undefined) return { id };
  if (name !== undefined) return { name };
  if (a.default_domain_id !== undefined) return { id: a.default_domain_id };
  if (a.default_domain_name !== undefined) return { name: a.default_domain_name };
  return { id: a.default_domain ?? 'default' };
}

function readEndpoints(given: Record<string, unknown>, refuse: Refuse): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of Object.entries(given)) {
    const type = /^(.+)_endpoint_override$/.exec(key)?.[1];
    if (type === undefined || value === null || value === undefined || value === '') continue;
    if (typeof value !== 'string' || !isHttp(value)) return refuse(key, 'an http or https URL is accepted');
    found.set(type, value);
  }
  return found;
}

function isHttp(url: string): boolean {
  const { protocol } = URL.parse(url) ?? {};
  return protocol === 'http:' || protocol === 'https:';
}
