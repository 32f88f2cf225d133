/** A server that answers as LXD's API documentation has it, for what the real one here cannot be: a cluster, Incus, a newer version. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

export type Asked = { readonly method: string; readonly url: string; readonly body: string; readonly ifMatch: string };
export type Answer = { readonly status?: number; readonly metadata?: unknown; readonly [key: string]: unknown };
export type Answers = (asked: Asked) => Answer | undefined | Promise<Answer | undefined>;

export type FakeServer = AsyncDisposable & { readonly socketPath: string; readonly asked: Asked[] };

export async function fakeServer(answers: Answers): Promise<FakeServer> {
  const dir = mkdtempSync('/tmp/shiftvol-unit-');
  const socketPath = join(dir, 'unix.socket');
  const asked: Asked[] = [];
  const server = createServer(async (incoming, outgoing) => {
    const one = await read(incoming);
    asked.push(one);
    const { status = 200, ...rest } = (await answers(one)) ?? {
      status: 404,
      type: 'error',
      error_code: 404,
      error: 'Not Found',
    };
    outgoing.writeHead(status, { 'content-type': 'application/json', etag: '"e1"' });
    outgoing.end(JSON.stringify({ type: 'sync', status: 'Success', operation: '', error: '', ...rest }));
  });
  await new Promise<void>(resolve => server.listen(socketPath, resolve));
  return {
    socketPath,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
      rmSync(dir, { recursive: true });
    },
  };
}

async function read(incoming: IncomingMessage): Promise<Asked> {
  const { method = '', url = '', headers } = incoming;
  return { method, url, body: await text(incoming), ifMatch: headers['if-match'] ?? '' };
}

export const serverAnswer = (environment: { readonly [key: string]: unknown } = {}): Answer => ({
  metadata: {
    environment: {
      server: 'lxd',
      server_version: '5.0.2',
      server_name: 'host1',
      kernel_features: { idmapped_mounts: 'true' },
      ...environment,
    },
  },
});

const IDMAP = '[{"Isuid":true,"Isgid":true,"Hostid":200000,"Nsid":0,"Maprange":65536}]';

export const instanceAnswer = (more: { readonly [key: string]: unknown } = {}): Answer => ({
  metadata: {
    name: 'c1',
    project: 'default',
    type: 'container',
    status: 'Stopped',
    location: 'none',
    architecture: 'x86_64',
    config: { 'volatile.idmap.next': IDMAP },
    expanded_config: { 'volatile.idmap.next': IDMAP },
    devices: {},
    expanded_devices: { root: { type: 'disk', path: '/', pool: 'default' } },
    profiles: ['default'],
    ephemeral: false,
    stateful: false,
    description: 'words',
    created_at: '2026-01-01T00:00:00Z',
    ...more,
  },
});

export const error = (status: number, words: string): Answer => ({
  status,
  type: 'error',
  error_code: status,
  error: words,
});
