import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listen } from '../../../src/http/listener.ts';
import { makePage } from '../../../src/page/page.ts';
import { OnceLink, Token } from '../../../src/page/token.ts';
import { DemoHost } from '../../rig/page-demo.ts';

const TOKEN = 'correct-horse-battery-staple';
const JSON_TYPE = { 'content-type': 'application/json' };
const BEARER = { authorization: `Bearer ${TOKEN}` };

type Served = AsyncDisposable & { readonly url: string; readonly source: DemoHost; readonly link: OnceLink };
async function serve(rows = 10, { isPrivate = false } = {}): Promise<Served> {
  const source = new DemoHost(rows);
  const link = new OnceLink(TOKEN);
  const page = makePage({ source, token: new Token(TOKEN), onError: () => undefined, ...(isPrivate && { link }) });
  const listener = await listen({ address: '127.0.0.1:0', routes: page.routes });
  return {
    url: listener.url,
    source,
    link,
    async [Symbol.asyncDispose]() {
      page[Symbol.dispose]();
      await listener[Symbol.asyncDispose]();
    },
  };
}

type Answer = { readonly status: number; readonly headers: IncomingMessage['headers']; readonly text: string };
async function ask(url: string, options: { method?: string; headers?: object; body?: string } = {}): Promise<Answer> {
  const { body, ...rest } = options;
  const outgoing = request(url, { agent: false, ...rest, headers: { ...rest.headers } });
  outgoing.end(body);
  const [incoming] = await once(outgoing, 'response');
  let text = '';
  for await (const chunk of incoming) text += chunk;
  return { status: incoming.statusCode, headers: incoming.headers, text };
}

/** The events of a stream, as they come. */
async function* events(url: string, headers: object = {}): AsyncGenerator<Map<string, string>> {
  const outgoing = request(url, { agent: false, headers: { ...headers } });
  outgoing.on('error', () => undefined).end();
  const [incoming] = await once(outgoing, 'response');
  assert.equal(incoming.headers['content-type'], 'text/event-stream; charset=utf-8');
  let rest = '';
  try {
    for await (const chunk of incoming.setEncoding('utf8')) {
      const parts = (rest + chunk).split('\n\n');
      rest = parts.pop() ?? '';
      for (const part of parts)
        if (!part.startsWith(':'))
          yield new Map(
            part.split('\n').map(line => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
          );
    }
  } finally {
    outgoing.destroy();
  }
}
const next = async (stream: AsyncGenerator<Map<string, string>>): Promise<Map<string, string>> => {
  const { value, done } = await stream.next();
  assert.ok(done !== true);
  return value;
};

let served: Served;
before(async () => {
  served = await serve();
});
after(async () => await served[Symbol.asyncDispose]());

test('the page is had with headers that let nothing in', async () => {
  const { status, headers, text } = await ask(`${served.url}/page/`);

  assert.equal(status, 200);
  const policy = String(headers['content-security-policy']);
  assert.match(policy, /^default-src 'none';/);
  assert.doesNotMatch(policy, /unsafe|\*|https?:|data:/);
  for (const part of [
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
  ])
    assert.ok(policy.includes(part), part);
  assert.equal(headers['x-frame-options'], 'DENY');
  assert.equal(headers['x-content-type-options'], 'nosniff');
  assert.equal(headers['referrer-policy'], 'no-referrer');
  // Nothing in the document that the policy would have to allow.
  assert.doesNotMatch(text, /<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|https?:\/\//);
});

test('each of its files is there, has the same headers, and is not sent again to whoever has it', async () => {
  const names = [...(await ask(`${served.url}/page/`)).text.matchAll(/(?:src|href)="([\w.-]+)"/g)].map(m => m[1]);
  assert.ok(names.length >= 3);
  for (const name of names) {
    const { status, headers } = await ask(`${served.url}/page/${name}`);
    assert.equal(status, 200, name);
    assert.ok(headers['content-security-policy']);
    const again = await ask(`${served.url}/page/${name}`, { headers: { 'if-none-match': String(headers.etag) } });
    assert.deepEqual([again.status, again.text], [304, '']);
  }
});

test('the beginning leads to the page, and nothing else is there', async () => {
  const { status, headers } = await ask(`${served.url}/`);
  assert.deepEqual([status, headers.location], [302, '/page/']);
  for (const path of [
    '/x',
    '/page/x',
    '/page/../page.ts',
    '/page/%2e%2e/page.ts',
    '/page/assets/page.html',
    '/page/main.js/',
  ])
    assert.equal((await ask(`${served.url}${path}`)).status, 404, path);
});

test('no script of the page makes a document of a text', () => {
  for (const name of [
    'main',
    'dom',
    'session',
    'live',
    'virtual-table',
    'attachments',
    'ids',
    'id-picture',
    'runs',
    'timeline',
    'templates',
    'dead-letters',
    'text',
  ]) {
    const text = readFileSync(new URL(`../../../src/page/assets/${name}.js`, import.meta.url), 'utf8');
    assert.doesNotMatch(
      text,
      /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|srcdoc|javascript:/,
      name,
    );
  }
});

describe('what is told while it happens', () => {
  test('first all that is, then what changes, to all who look', async () => {
    await using one = await serve();
    const streams = [events(`${one.url}/page/events`), events(`${one.url}/page/events`)];
    const firsts = await Promise.all(streams.map(next));
    assert.deepEqual(
      firsts.map(first => [first.get('event'), JSON.parse(first.get('data') ?? '').sections.attachments.rows.length]),
      [
        ['snapshot', 10],
        ['snapshot', 10],
      ],
    );

    one.source.change(3, { state: 'detaching' });

    for (const change of await Promise.all(streams.map(next))) {
      assert.equal(change.get('event'), 'change');
      const { set, gone } = JSON.parse(change.get('data') ?? '').attachments;
      assert.deepEqual([set.map((row: { state: string }) => row.state), gone], [['detaching'], []]);
    }
    for (const stream of streams) await stream.return(undefined);
  });

  test('whoever comes back with the last id gets what he missed, and not all', async () => {
    await using one = await serve();
    const before = events(`${one.url}/page/events`);
    const id = (await next(before)).get('id') ?? '';
    await before.return(undefined);
    one.source.change(0, { state: 'detached' });
    await sleep(300);

    const back = events(`${one.url}/page/events`, { 'last-event-id': id });
    assert.equal((await next(back)).get('event'), 'change');
    await back.return(undefined);

    const stranger = events(`${one.url}/page/events`, { 'last-event-id': '0123456789ab-4' });
    assert.equal((await next(stranger)).get('event'), 'snapshot');
    await stranger.return(undefined);
  });

  test('nobody is asked anything while nobody looks', async () => {
    await using one = await serve();
    await ask(`${one.url}/page/`);
    one.source.change(0, { state: 'detached' });
    await sleep(200);

    assert.deepEqual([one.source.asked, one.source.watched], [0, false]);
  });

  test('whoever does not read is sent away, and holds up nobody else', async () => {
    await using one = await serve(200);
    const socket = connect(Number(new URL(one.url).port), '127.0.0.1');
    socket.pause().on('error', () => undefined);
    socket.write('GET /page/events HTTP/1.1\r\nHost: localhost\r\n\r\n');
    let isGone = false;
    const reader = events(`${one.url}/page/events`);
    await next(reader);

    // More than the kernel takes for him, and more than is kept for anybody: some 700 KiB each.
    for (let n = 0; n < 12; n++) {
      const target = `/${String(n).padEnd(3500, 'x')}`;
      for (let i = 0; i < 200; i++) one.source.change(i, { target });
      await next(reader);
    }
    socket.on('close', () => {
      isGone = true;
    });
    socket.resume();
    for (const end = Date.now() + 5000; !isGone && Date.now() < end; ) await sleep(20);

    assert.ok(isGone);
    await reader.return(undefined);
  });

  test('above 32 who look, the next is told so', async () => {
    await using one = await serve();
    const streams = Array.from({ length: 32 }, () => events(`${one.url}/page/events`));
    await Promise.all(streams.map(next));

    assert.equal((await ask(`${one.url}/page/events`)).status, 409);
    for (const stream of streams) await stream.return(undefined);
  });
});

describe('doing something', () => {
  const post = (path: string, options: { headers?: object; body?: string } = {}, to = served) =>
    ask(`${to.url}/page/${path}`, { method: 'POST', body: '{"ids":["3f2a90bc11d0"]}', headers: JSON_TYPE, ...options });

  test('is for whoever shows the token', async () => {
    for (const headers of [
      JSON_TYPE,
      { ...JSON_TYPE, authorization: 'Bearer wrong' },
      { ...JSON_TYPE, cookie: `token=${TOKEN}` },
    ]) {
      const { status, headers: told } = await post('dead-letters/drop', { headers });
      assert.deepEqual([status, told['www-authenticate']], [401, 'Bearer']);
    }
    assert.deepEqual(served.source.acted, []);

    const { status, text } = await post('dead-letters/drop', { headers: { ...JSON_TYPE, ...BEARER } });
    assert.deepEqual([status, JSON.parse(text)], [200, { done: ['3f2a90bc11d0'], kept: [] }]);
    assert.deepEqual(served.source.acted, ['drop 3f2a90bc11d0']);
  });

  test('is not for pages of others, even if they had the token', async () => {
    const own = new URL(served.url);
    const bad: readonly object[] = [
      { 'content-type': 'text/plain' },
      { 'content-type': 'application/x-www-form-urlencoded' },
      { ...JSON_TYPE, origin: 'http://evil.example' },
      { ...JSON_TYPE, origin: 'null' },
      { ...JSON_TYPE, origin: `http://127.0.0.1:${Number(own.port) + 1}` },
      { ...JSON_TYPE, 'sec-fetch-site': 'same-site' },
      { ...JSON_TYPE, 'sec-fetch-site': 'cross-site' },
    ];
    for (const headers of bad)
      assert.equal(
        (await post('dead-letters/replay', { headers: { ...BEARER, ...headers } })).status,
        400,
        JSON.stringify(headers),
      );
    const good = { ...JSON_TYPE, ...BEARER, origin: served.url, 'sec-fetch-site': 'same-origin' };
    assert.equal((await post('token', { headers: good, body: '{}' })).status, 200);
  });

  test('takes ids, and nothing else', async () => {
    const headers = { ...JSON_TYPE, ...BEARER };
    for (const body of [
      '',
      '[]',
      '{"ids":[]}',
      '{"ids":"all"}',
      '{"ids":["../x"]}',
      '{"ids":["3f2a"],"more":1}',
      `{"ids":["${'a'.repeat(70_000)}"]}`,
    ]) {
      const { status, text } = await post('dead-letters/replay', { headers, body });
      assert.equal(status, 400, body.slice(0, 40));
      assert.equal(JSON.parse(text).error.code, 'SV_MESSAGE');
    }
    assert.equal((await post('dead-letters/explode', { headers })).status, 404);
    assert.equal((await ask(`${served.url}/page/dead-letters/drop`, { headers: BEARER })).status, 404);
  });
});

describe('for the one who has the link', () => {
  test('nothing is shown without its token, which is had for the link’s secret, once', async () => {
    await using one = await serve(10, { isPrivate: true });
    for (const path of ['events', 'templates', 'dead-letters'])
      assert.equal((await ask(`${one.url}/page/${path}`)).status, 401, path);
    assert.equal((await ask(`${one.url}/page/`)).status, 200);

    const open = () =>
      ask(`${one.url}/page/session`, {
        method: 'POST',
        body: '{}',
        headers: { ...JSON_TYPE, authorization: `Bearer ${one.link.secret}` },
      });
    const { status, text } = await open();
    assert.deepEqual([status, JSON.parse(text)], [200, { token: TOKEN }]);
    assert.equal((await open()).status, 401);
    assert.equal((await ask(`${one.url}/page/dead-letters`, { headers: BEARER })).status, 200);
  });

  test('there is no session where anybody may look', async () => {
    const headers = { ...JSON_TYPE, authorization: `Bearer ${served.link.secret}` };
    assert.equal((await ask(`${served.url}/page/session`, { method: 'POST', body: '{}', headers })).status, 401);
  });
});

test('the agent loads nothing of the page where it is not asked for', () => {
  const text = readFileSync(new URL('../../../src/cli/agent.ts', import.meta.url), 'utf8');

  assert.doesNotMatch(text, /^import (?!type).*page/m);
  assert.match(text, /config\.http\.page\s*\?.*await import\('\.\/page\.ts'\)/);
});
