/** The files of the page: read when the first one looks, and sent as they are. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { header } from './client.ts';

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
};
const DIRECTORY = new URL('assets/', import.meta.url);

/**
 * Nothing but its own files, no script in the document, no form, no frame around it, and no way to make a document of a text: what comes
 * from images and messages is hostile.
 */
export const SAFE_HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
} as const;

type Asset = { readonly type: string; readonly bytes: Buffer; readonly tag: string };

export class Assets {
  #files: ReadonlyMap<string, Asset> | undefined;

  /** Answers with the file of this name; false where there is none. */
  send(name: string, request: IncomingMessage, response: ServerResponse): boolean {
    this.#files ??= load();
    const asset = this.#files.get(name);
    if (!asset) return false;
    const isKnown = header(request, 'if-none-match') === asset.tag;
    // Asked for anew each time, and not sent anew: after an upgrade no old script meets a new agent.
    response.writeHead(isKnown ? 304 : 200, {
      'content-type': asset.type,
      'cache-control': 'no-cache',
      etag: asset.tag,
    });
    response.end(isKnown ? undefined : asset.bytes);
    return true;
  }
}

function load(): ReadonlyMap<string, Asset> {
  const files = new Map<string, Asset>();
  for (const name of readdirSync(DIRECTORY)) {
    const type = TYPES[name.slice(name.lastIndexOf('.') + 1)];
    if (type === undefined) continue;
    const bytes = readFileSync(new URL(name, DIRECTORY));
    files.set(name, { type, bytes, tag: `"${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}"` });
  }
  return files;
}
