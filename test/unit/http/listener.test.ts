import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { listen, type Route } from '../../../src/http/listener.ts';

const routes: readonly Route[] = [
  { method: 'GET', path: '/exact', handle: (_request, response) => void response.end('exact') },
  { method: 'GET', path: '/tree/', handle: (_request, response, url) => void response.end(`tree ${url.search}`) },
  { method: 'GET', path: '/tree/leaf', handle: (_request, response) => void response.end('leaf') },
  { method: 'POST', path: '/exact', handle: async (_request, response) => void response.end('posted') },
  { method: 'GET', path: '/throws', handle: () => Promise.reject(new Error('the password is "swordfish"')) },
  { method: 'GET', path: '/hangs', handle: () => undefined },
];

type Answer = { readonly status: number; readonly text: string; readonly allow: string | undefined };

async function ask(url: string, path: string, options: { method?: string; host?: string } = {}): Promise<Answer> {
  const { host, ...rest } = options;
  const outgoing = request(`${url}${path}`, {
    agent: false,
    ...rest,
    ...(host !== undefined && { headers: { host } }),
  });
  outgoing.end();
  const [incoming] = await once(outgoing, 'response');
  let text = '';
  for await (const chunk of incoming) text += chunk;
  return { status: incoming.statusCode, text, allow: incoming.headers.allow };
}

test('a route is found by its exact path, or by the longest beginning, and by its method', async () => {
  await using server = await listen({ address: '127.0.0.1:0', routes });

  assert.equal((await ask(server.url, '/exact')).text, 'exact');
  assert.equal((await ask(server.url, '/exact?x=1')).text, 'exact');
  assert.equal((await ask(server.url, '/exact', { method: 'POST' })).text, 'posted');
  assert.equal((await ask(server.url, '/tree/any/thing?q=2')).text, 'tree ?q=2');
  assert.equal((await ask(server.url, '/tree/leaf')).text, 'leaf');
  assert.deepEqual(await ask(server.url, '/exact', { method: 'HEAD' }), { status: 200, text: '', allow: undefined });
});

test('what is not there is 404, what cannot be done with it 405, and a path that is none 400', async () => {
  await using server = await listen({ address: '127.0.0.1:0', routes });

  for (const path of ['/', '/exact/', '/exactly', '/tree', '/%2e%2e/exact/x'])
    assert.equal((await ask(server.url, path)).status, 404, path);
  const refused = await ask(server.url, '/exact', { method: 'DELETE' });
  assert.equal(refused.status, 405);
  assert.equal(refused.allow, 'GET, POST');
  assert.equal((await ask(server.url, '/tree/', { method: 'POST' })).status, 405);
  assert.equal((await ask(server.url, '//elsewhere/exact')).status, 400);
});

test('a route that throws is 500, and says nothing of why', async () => {
  await using server = await listen({ address: '127.0.0.1:0', routes });

  const { status, text } = await ask(server.url, '/throws');

  assert.equal(status, 500);
  assert.doesNotMatch(text, /password|swordfish/);
});

test('on loopback it answers to names of this host alone, so that no page whose name was turned here reads it', async () => {
  await using server = await listen({ address: '127.0.0.1:0', routes });

  for (const host of ['localhost', 'LOCALHOST:8080', '127.0.0.1', '127.0.0.2:99', '[::1]:9477', '[::1]'])
    assert.equal((await ask(server.url, '/exact', { host })).status, 200, host);
  for (const host of ['evil.example', 'localhost.evil.example', '192.0.2.1:9477', '127.0.0.1.evil.example'])
    assert.equal((await ask(server.url, '/exact', { host })).status, 421, host);
});

test('on other addresses any name will do', async () => {
  await using server = await listen({ address: '0.0.0.0:0', routes });
  const url = server.url.replace('0.0.0.0', '127.0.0.1');

  assert.equal((await ask(url, '/exact', { host: 'node1.example.org:9477' })).status, 200);
});

test('an IPv6 address is written in brackets', async () => {
  await using server = await listen({ address: '[::1]:0', routes });

  assert.match(server.url, /^http:\/\/\[::1\]:\d+$/);
  assert.equal((await ask(server.url, '/exact')).text, 'exact');
});

test('headers above 8 KiB are refused', async () => {
  await using server = await listen({ address: '127.0.0.1:0', routes });

  assert.equal(
    await raw(server.url, `GET /exact HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(9000)}\r\n\r\n`),
    '431',
  );
});

test('who does not end his headers is sent away after some seconds', async () => {
  await using server = await listen({ address: '127.0.0.1:0', routes });

  const started = performance.now();
  assert.equal(await raw(server.url, 'GET /exact HTTP/1.1\r\nHost: loc'), '408');
  assert.ok(performance.now() - started < 9000);
});

test('connections that are open end with it, and the port is free again', async () => {
  const server = await listen({ address: '127.0.0.1:0', routes });
  const idle = connect(Number(new URL(server.url).port), '127.0.0.1');
  const hanging = raw(server.url, 'GET /hangs HTTP/1.1\r\nHost: localhost\r\n\r\n');
  // Both were taken before this one.
  await ask(server.url, '/exact');

  await server[Symbol.asyncDispose]();

  assert.equal(await hanging, '');
  idle.destroy();
  await using again = await listen({ address: new URL(server.url).host, routes });
  assert.equal(again.url, server.url);
});

test('an address that is taken is said with the key that it came from', async () => {
  await using server = await listen({ address: '127.0.0.1:0', routes });

  await assert.rejects(listen({ address: new URL(server.url).host, routes }), {
    code: 'SV_CONFIG',
    field: 'http.listen',
  });
});

/** The status of the answer to these bytes; empty where the connection ended without one. */
async function raw(url: string, text: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('error', () => undefined);
  socket.write(text);
  let got = '';
  socket.setEncoding('latin1').on('data', chunk => {
    got += chunk;
  });
  await once(socket, 'close');
  return /^HTTP\/1\.1 (\d{3})/.exec(got)?.[1] ?? '';
}
