/** The configuration in effect, spelled as in the file, with every secret taken out. */
import type { Config } from './schema.ts';
import { maskUrl } from './transport-url.ts';

export function shownConfig(config: Config): Readonly<Record<string, unknown>> {
  const { file: _, ...rest } = config;
  return Object.fromEntries(Object.entries(rest).map(([key, value]) => [snake(key), shown(value)]));
}

function shown(value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries(value);
  if (Array.isArray(value)) return value.map(shown);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, below]) => [snake(key), shown(below)]));
  return typeof value === 'string' && value.includes('://') ? maskUrl(value) : value;
}

const snake = (key: string): string => key.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);

/** Every password and user:password of the transport and management URLs, as written and decoded, longest first. */
export function configSecrets({ bus, rpc }: Pick<Config, 'bus' | 'rpc'>): readonly string[] {
  const urls = [...bus.listen, bus.url, bus.managementUrl, rpc.url].filter(url => url !== null);
  const written = urls.flatMap(url => {
    const authority = /^[a-z+]+:\/\/([^/?#]*)/i.exec(url)?.[1] ?? '';
    const passwords = authority.split(',').map(part => {
      const credentials = part.slice(0, Math.max(0, part.lastIndexOf('@')));
      return credentials.includes(':') ? credentials.slice(credentials.indexOf(':') + 1) : '';
    });
    const query = /\?([^#]*)/.exec(url)?.[1];
    return [...passwords, ...(query ? [query] : [])];
  });
  return [...new Set(written.flatMap(text => [text, decoded(text)]))]
    .filter(text => text !== '')
    .toSorted((a, b) => b.length - a.length);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a management URL is not looked at as closely as the others
  }
}
