/**
 * oslo.messaging's transport URL: `rabbit://user:pw@host:port[,user2:pw2@host2:port2]/vhost?ssl=true`.
 * Pure; read here so that a wrong one is told with file, line and key, and used by bus.
 */
import { accepting, Misfit, type Reader } from './shape.ts';

export type BrokerHost = {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
};
export type TransportUrl = {
  readonly hosts: readonly BrokerHost[];
  readonly vhost: string;
  readonly tls: boolean;
  /** `ssl_ca_file` of the query. */
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  /** `heartbeat_timeout_threshold` of the query, in seconds. */
  readonly heartbeatSeconds?: number;
};

const SCHEMES = ['rabbit', 'amqp', 'amqps', 'kombu+amqp', 'kombu+amqps'];
const ACCEPTED = 'rabbit://user:password@host:5672[,user:password@host2:5672]/vhost is accepted';

/** A URL that fits no text must not be shown: it has a password. */
export class TransportUrlError extends Error {
  constructor(what: string) {
    super(`${what}, ${ACCEPTED}`);
    this.name = 'TransportUrlError';
  }
}

/**
 * Percent-encoded user, password and vhost are decoded; "" and "/" are both the vhost "/"; no user means guest. Unknown options of
 * the query are left alone: it may set any option of oslo.messaging.
 * @throws {TransportUrlError} without any part of the URL that could hold a password
 */
export function parseTransportUrl(text: string): TransportUrl {
  const match = /^([a-z+]+):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/i.exec(text);
  const scheme = match?.[1]?.toLowerCase();
  if (!match || scheme === undefined) throw new TransportUrlError('not a transport URL');
  if (!SCHEMES.includes(scheme)) throw new TransportUrlError(`scheme "${scheme}"`);
  const query = new URLSearchParams(match[4] ?? '');
  const tls = scheme.endsWith('amqps') || isTrue(query.get('ssl')) || isTrue(query.get('rabbit_use_ssl'));
  const authority = match[2] ?? '';
  const hosts = (authority === '' ? [''] : authority.split(',')).map(part =>
    parseHost(part, scheme.endsWith('amqps') ? 5671 : 5672),
  );
  const vhost = decode(match[3] ?? '', 'the vhost');
  const heartbeat = Number(query.get('heartbeat_timeout_threshold') ?? Number.NaN);
  const caFile = query.get('ssl_ca_file');
  const certFile = query.get('ssl_cert_file');
  const keyFile = query.get('ssl_key_file');
  return {
    hosts,
    vhost: vhost === '' ? '/' : vhost,
    tls,
    ...(caFile ? { caFile } : {}),
    ...(certFile ? { certFile } : {}),
    ...(keyFile ? { keyFile } : {}),
    ...(Number.isInteger(heartbeat) && heartbeat >= 0 && heartbeat <= 65535 ? { heartbeatSeconds: heartbeat } : {}),
  };
}

/** The same URL with every password, and everything in the query, taken out. Safe to print, whatever the text is. */
export function maskUrl(text: string): string {
  const match = /^([a-z+]+:\/\/)([^/?#]*)(\/[^?#]*)?/i.exec(text);
  if (!match) return '(not a URL)';
  const hosts = (match[2] ?? '').split(',').map(part => {
    const at = part.lastIndexOf('@');
    if (at < 0) return part;
    const user = part.slice(0, at).split(':')[0] ?? '';
    return `${user}:***@${part.slice(at + 1)}`;
  });
  return `${match[1]}${hosts.join(',')}${match[3] ?? ''}`;
}

export const transportUrl: Reader<string> = (value, path) => {
  if (typeof value !== 'string' || value === '') throw new Misfit(path, `not a text, ${ACCEPTED}`);
  try {
    parseTransportUrl(value);
  } catch (error) {
    if (error instanceof TransportUrlError) throw new Misfit(path, error.message);
    throw error;
  }
  return value;
};
accepting(transportUrl, () => ({
  type: 'string',
  pattern: `^(${SCHEMES.map(scheme => scheme.replace('+', '\\+')).join('|')})://`,
  description: ACCEPTED,
}));

/** `defaultPort`: oslo.messaging takes 5672 with `ssl=true`, too. */
function parseHost(part: string, defaultPort: number): BrokerHost {
  const at = part.lastIndexOf('@');
  const credentials = at < 0 ? '' : part.slice(0, at);
  const address = part.slice(at + 1);
  const match = /^(?:\[([0-9a-f:.%]+)\]|([^:[\]@]*))(?::(\d{1,5}))?$/i.exec(address);
  if (!match) throw new TransportUrlError('a host that cannot be read');
  const port = match[3] === undefined ? defaultPort : Number(match[3]);
  if (port < 1 || port > 65535) throw new TransportUrlError(`port ${port}`);
  const colon = credentials.indexOf(':');
  const user = decode(colon < 0 ? credentials : credentials.slice(0, colon), 'a user name');
  const password = colon < 0 ? '' : decode(credentials.slice(colon + 1), 'a password');
  return {
    host: match[1] ?? (match[2] || 'localhost'),
    port,
    user: at < 0 ? 'guest' : user,
    password: at < 0 ? 'guest' : password,
  };
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // URIError is the only thing that it throws; its text would be of no more help.
    throw new TransportUrlError(`${what} that is not percent-encoded properly`);
  }
}

function isTrue(value: string | null): boolean {
  return value !== null && /^(1|true|yes|on)$/i.test(value);
}
