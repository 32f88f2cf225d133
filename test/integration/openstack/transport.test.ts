/** TLS and proxies, with real certificates and a real proxy. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { inspect } from 'node:util';
import { explain } from '../../../src/errors.ts';
import { findCloud } from '../../../src/openstack/cloud.ts';
import { CloudSession } from '../../../src/openstack/session.ts';
import { failure, soon } from './client.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-tls-'));
const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
const servers: Server[] = [];
before(() => {
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-keyout',
      key,
      '-out',
      cert,
      ...subject,
    ],
    { stdio: 'ignore' },
  );
});
after(() => {
  for (const server of servers) server.close().closeAllConnections();
  rmSync(dir, { recursive: true });
});

async function listening(server: Server): Promise<number> {
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // it listens on TCP
  return port;
}

/** Keystone and Glance in one, as far as this is about. */
async function cloudAt(tls: boolean): Promise<{ origin: string; hosts: (string | undefined)[] }> {
  const hosts: (string | undefined)[] = [];
  let origin = '';
  const answer: Parameters<typeof createServer>[1] = (request, response) => {
    hosts.push(request.headers.host);
    request.resume();
    const catalog = [{ type: 'image', endpoints: [{ interface: 'public', region_id: 'r', url: `${origin}/image` }] }];
    const issued_at = new Date().toISOString();
    const token = { issued_at, expires_at: new Date(Date.now() + 3_600_000).toISOString(), catalog };
    const body = request.url?.startsWith('/image') ? { images: [] } : { token };
    response.writeHead(200, { 'x-subject-token': 'token-1' });
    response.end(JSON.stringify(body));
  };
  const server = tls
    ? createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, answer)
    : createServer(answer);
  origin = `${tls ? 'https' : 'http'}://127.0.0.1:${await listening(server)}`;
  return { origin, hosts };
}

/** Passes on, and notes what it was asked to. */
async function proxy(): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers['proxy-authorization'] ?? ''}`);
    const target = new URL(request.url ?? '');
    const { host: _, ...headers } = request.headers;
    const chunks: Buffer[] = [];
    request
      .on('data', chunk => chunks.push(chunk))
      .on('end', () => {
        const body = Buffer.concat(chunks);
        fetch(target, {
          method: request.method ?? 'GET',
          headers: plain(headers),
          ...(body.length > 0 && { body }),
        }).then(
          async passed => {
            response.writeHead(passed.status, Object.fromEntries(passed.headers));
            response.end(Buffer.from(await passed.arrayBuffer()));
          },
          () => response.destroy(),
        );
      });
  });
  server.on('connect', (request, socket) => {
    asked.push(`CONNECT ${request.url} ${request.headers['proxy-authorization'] ?? ''}`);
    const [host = '', port = ''] = (request.url ?? '').split(':');
    const to = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      to.pipe(socket).pipe(to);
    });
    for (const end of [to, socket]) end.on('error', () => socket.destroy());
  });
  return { url: `http://me:demo-password@127.0.0.1:${await listening(server)}`, asked };
}

const HOP = /^(connection|proxy-.*|transfer-encoding|content-length|keep-alive)$/;
const plain = (headers: NodeJS.Dict<string | string[]>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers)
      .filter(([k]) => !HOP.test(k))
      .map(([k, v]) => [k, String(v)]),
  );

const ask = async (
  origin: string,
  more: Readonly<Record<string, string>> = {},
  env: Readonly<Record<string, string>> = {},
): Promise<unknown> => {
  const OS = {
    OS_AUTH_URL: `${origin}/v3`,
    OS_USERNAME: 'u',
    OS_PASSWORD: 'demo-password',
    OS_PROJECT_NAME: 'p',
    ...more,
  };
  using session = new CloudSession(findCloud({ env: OS }), { env, retry: { attempts: 1 } });
  return (await session.request('image', { method: 'GET', path: '/images' }, soon())).body;
};

test('a certificate is verified: by the CA that is given, or not at all where that is asked for', async () => {
  const { origin } = await cloudAt(true);

  const error = await failure(ask(origin), 'SV_OPENSTACK');
  assert.match(explain(error), /self-signed certificate/);
  assert.deepEqual(await ask(origin, { OS_CACERT: cert }), { images: [] });
  assert.deepEqual(await ask(origin, { OS_VERIFY: 'false' }), { images: [] });
  assert.deepEqual(await ask(origin, { OS_INSECURE: '1' }), { images: [] });
});

test('a certificate for another host is refused, whoever signed it', async () => {
  const { origin } = await cloudAt(true);

  const error = await failure(ask(origin.replace('127.0.0.1', 'localhost'), { OS_CACERT: cert }), 'SV_OPENSTACK');

  assert.match(explain(error), /altnames/);
});

test('a CA file that cannot be read is told before anything is asked', async () => {
  const error = await failure(ask('https://127.0.0.1:1', { OS_CACERT: join(dir, 'none.pem') }), 'SV_CONFIG');

  assert.equal(error.field, 'cacert');
});

test('http goes through HTTP_PROXY, unless NO_PROXY says otherwise', async () => {
  const { origin } = await cloudAt(false);
  const through = await proxy();

  assert.deepEqual(await ask(origin, {}, { HTTP_PROXY: through.url }), { images: [] });
  assert.deepEqual(
    through.asked.map(a => a.split(' ').slice(0, 2).join(' ')),
    [`POST ${origin}/v3/auth/tokens`, `GET ${origin}/image/v2/images`],
  );
  assert.deepEqual(await ask(origin, {}, { HTTP_PROXY: through.url, NO_PROXY: '127.0.0.1' }), { images: [] });
  assert.equal(through.asked.length, 2);
});

test('https goes through HTTPS_PROXY by CONNECT, the proxy’s password being shown to it alone', async () => {
  const { origin } = await cloudAt(true);
  const through = await proxy();

  assert.deepEqual(await ask(origin, { OS_CACERT: cert }, { https_proxy: through.url }), { images: [] });

  const basic = `Basic ${Buffer.from('me:demo-password').toString('base64')}`;
  assert.ok(
    through.asked.every(a => a === `CONNECT ${new URL(origin).host} ${basic}`),
    through.asked.join(),
  );
});

test('a proxy that is not there, or that refuses, is an error without its password', async () => {
  for (const tls of [false, true]) {
    const { origin } = await cloudAt(tls);
    const gone = 'http://me:demo-password@127.0.0.1:1';
    const error = await failure(
      ask(origin, { OS_CACERT: cert }, { HTTP_PROXY: gone, HTTPS_PROXY: gone }),
      'SV_OPENSTACK',
    );
    assert.doesNotMatch(inspect(error, { depth: 9 }), /demo-password/);
  }
  const { origin } = await cloudAt(true);
  const refusing = createServer();
  refusing.on('connect', (_, socket) => socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n'));
  const url = `http://me:demo-password@127.0.0.1:${await listening(refusing)}`;
  await failure(ask(origin, { OS_CACERT: cert }, { HTTPS_PROXY: url }), 'SV_OPENSTACK');
});
