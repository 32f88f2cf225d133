/** Keystone, tokens, retries: on answers that a real OpenStack gave. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { explain } from '../../../src/errors.ts';
import { Glance } from '../../../src/openstack/glance.ts';
import { withRequestId } from '../../../src/openstack/request-id.ts';
import type { CloudSession } from '../../../src/openstack/session.ts';
import { assertNoSecret, failure, soon, startClient } from './client.ts';
import { type Asked, isFor, type Trouble } from './replay.ts';

const missing = (session: CloudSession) => new Glance(session).image('no-such-image', soon());
const LIST = /^\/image\/v2\/images\?/;
const LOGIN = /auth\/tokens$/;
/** In front of the images, so often. */
const first =
  (count: number, trouble: Trouble) =>
  (asked: Asked, times: number): Trouble | undefined =>
    isFor('image', asked) && times < count ? trouble : undefined;

test('one login serves all who ask at the same time', async () => {
  await using client = await startClient(['images']);

  await Promise.all(Array.from({ length: 20 }, () => failure(missing(client.session), 'SV_OPENSTACK_NOT_FOUND')));

  assert.equal(client.cloud.count('POST', LOGIN), 1);
});

test('an application credential is sent as such, without a scope', async () => {
  const asEnv = { OS_APPLICATION_CREDENTIAL_ID: 'an-id', OS_APPLICATION_CREDENTIAL_SECRET: 'demo-password' };
  await using client = await startClient(['application-credential'], undefined, { asEnv });

  await failure(missing(client.session), 'SV_OPENSTACK_NOT_FOUND');

  const sent = JSON.parse(client.cloud.asked[0]?.body.toString() ?? '');
  const application_credential = { id: 'an-id', secret: 'demo-password' };
  assert.deepEqual(sent, { auth: { identity: { methods: ['application_credential'], application_credential } } });
});

test('an application credential that has ended is told with Keystone’s words, and where it is written', async () => {
  const asEnv = { OS_APPLICATION_CREDENTIAL_ID: 'an-id', OS_APPLICATION_CREDENTIAL_SECRET: 'demo-password' };
  await using client = await startClient(['application-credential-ended'], undefined, { asEnv });

  const error = await failure(missing(client.session), 'SV_OPENSTACK_AUTH');

  assert.match(
    explain(error),
    /by application credential: Could not find Application Credential.*req-.*OS_\* variables/,
  );
});

test('a wrong password is refused once, and not tried again', async () => {
  await using client = await startClient(['wrong-password']);

  const error = await failure(missing(client.session), 'SV_OPENSTACK_AUTH');

  assert.match(
    error.message,
    /Cannot log in to the cloud "envvars" .* by password: The request you have made requires/,
  );
  assert.equal(client.cloud.asked.length, 1);
});

test('a token that was revoked is replaced once, and the request is asked again', async () => {
  await using client = await startClient(['token-revoked']);

  await failure(missing(client.session), 'SV_OPENSTACK_NOT_FOUND');

  assert.equal(client.cloud.count('POST', LOGIN), 2);
  const tokens = client.cloud.asked.filter(a => LIST.test(a.path)).map(a => a.headers['x-auth-token']);
  assert.equal(new Set(tokens).size, 2);
});

test('a service that takes no token is not asked for ever', async () => {
  await using client = await startClient(['images'], first(99, { status: 401 }));

  await failure(missing(client.session), 'SV_OPENSTACK_AUTH');

  assert.equal(client.cloud.count('GET', LIST), 2);
});

test('a token is renewed before it ends, by the clock of this host alone', async () => {
  const asked: number[] = [];
  const inAnHour = (ms: number) => new Date(Date.now() + 3_600_000 + ms).toISOString();
  const token = {
    issued_at: inAnHour(0), // Keystone's clock is an hour ahead
    expires_at: inAnHour(1500),
    catalog: [],
  };
  const login = { status: 201, headers: { 'x-subject-token': 'token-9' }, body: JSON.stringify({ token }) };
  await using client = await startClient([], ({ path }) => {
    if (!LOGIN.test(path)) return undefined;
    asked.push(performance.now());
    return login;
  });

  const signal = AbortSignal.timeout(10_000);
  while (asked.length < 3) {
    await client.session.projectId(signal);
    await new Promise(resolve => setTimeout(resolve, 5));
  }

  const gap = (asked[2] ?? 0) - (asked[1] ?? 0);
  assert.ok(gap > 900 && gap < 1500, `renewed after ${gap} ms of 1500`);
});

test('429 is waited for as long as it says, 503 with growing delays', async () => {
  const began = performance.now();
  {
    await using client = await startClient(['images'], first(1, { status: 429, headers: { 'retry-after': '1' } }));
    await failure(missing(client.session), 'SV_OPENSTACK_NOT_FOUND');
    assert.ok(performance.now() - began >= 1000);
    assert.equal(client.cloud.count('GET', LIST), 2);
  }
  await using client = await startClient(['images'], first(3, { status: 503 }));
  await failure(missing(client.session), 'SV_OPENSTACK_NOT_FOUND');
  assert.equal(client.cloud.count('GET', LIST), 4);
});

test('a storm of 503 comes to an end, with the service’s id of the last', async () => {
  await using client = await startClient(['images'], first(99, { status: 503 }));

  const error = await failure(missing(client.session), 'SV_OPENSTACK');

  assert.match(error.message, /HTTP status 503 \(req-trouble\)/);
  assert.equal(client.cloud.count('GET', LIST), 5);
});

test('a Retry-After that nobody would wait for is an error at once', async () => {
  const trouble = { status: 429, headers: { 'retry-after': '86400' } };
  await using client = await startClient(['images'], first(99, trouble));

  await failure(missing(client.session), 'SV_OPENSTACK');

  assert.equal(client.cloud.count('GET', LIST), 1);
});

test('a connection that breaks is tried again for a GET, and not for a POST that may have been done', async () => {
  await using client = await startClient(['images'], (asked, times) =>
    isFor('identity', asked) || times > 1 ? undefined : 'reset',
  );

  await failure(missing(client.session), 'SV_OPENSTACK_NOT_FOUND');
  assert.equal(client.cloud.count('GET', LIST), 3);

  const post = { method: 'POST', path: '/images', json: {} } as const;
  const error = await failure(client.session.request('image', post, soon()), 'SV_OPENSTACK');
  assert.match(explain(error), /the image service at 127.0.0.1:\d+ does not answer/);
  assert.equal(client.cloud.count('POST', /images$/), 1);
});

test('a service that is not there is told by its address, a POST being tried again since nothing was sent', async () => {
  const asEnv = { OS_TOKEN: 'demo-password', OS_AUTH_URL: 'http://127.0.0.1:1/v3', OS_PROJECT_ID: 'p' };
  await using client = await startClient([], undefined, { asEnv });

  const error = await failure(missing(client.session), 'SV_OPENSTACK');

  assert.match(explain(error), /the identity service at 127.0.0.1:1 does not answer: .*ECONNREFUSED/);
  assert.equal(client.lines.length, 5);
});

test('a service that takes too long is SV_TIMEOUT, and who stops waiting is let go at once', async () => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await new Promise(resolve => silent.once('listening', resolve));
  const address = silent.address();
  const port = typeof address === 'object' ? address?.port : 0;
  try {
    const asEnv = {
      OS_IMAGE_ENDPOINT_OVERRIDE: `http://127.0.0.1:${port}`,
      OS_TOKEN: 'demo-password',
      OS_PROJECT_ID: 'p',
    };
    await using client = await startClient(['application-credential'], undefined, { asEnv, retry: { attempts: 1 } });
    const get = { method: 'GET', path: '/images', timeoutMs: 100 } as const;

    await failure(client.session.request('image', get, soon()), 'SV_TIMEOUT');
    await assert.rejects(client.session.request('image', { ...get, timeoutMs: 9999 }, AbortSignal.timeout(100)), {
      name: 'TimeoutError',
    });
  } finally {
    silent.closeAllConnections();
    silent.close();
  }
});

test('a redirection is not followed with our token', async () => {
  const trouble = { status: 302, headers: { location: 'https://me:demo-password@elsewhere/' } };
  await using client = await startClient(['images'], first(9, trouble));

  const error = await failure(missing(client.session), 'SV_OPENSTACK');

  assert.match(explain(error), /redirection \(302\) to https:\/\/\*\*\*@elsewhere.*correct the endpoint/);
});

test('an answer that is none is an error, not a guess', async () => {
  for (const body of ['', 'not json', '{"images": [{"id": "../../etc"}]}', '{"images": {}}']) {
    await using client = await startClient(['images'], first(9, { status: 200, body }));
    await failure(missing(client.session), 'SV_OPENSTACK');
  }
  await using keystone = await startClient([], () => ({ status: 201, body: '{"token": {}}' }));
  await failure(missing(keystone.session), 'SV_OPENSTACK');
});

test('a service that repeats the token in its words does not get it into our error', async () => {
  await using client = await startClient(['images'], asked =>
    isFor('image', asked)
      ? { status: 400, body: JSON.stringify({ message: `bad ${asked.headers['x-auth-token']}` }) }
      : undefined,
  );

  const error = await failure(missing(client.session), 'SV_OPENSTACK_REFUSED');

  assert.match(error.message, /: bad \*\*\* \(req-trouble\)/);
});

test('every answer is logged with the service’s request id and ours, and no secret', async () => {
  await using client = await startClient(['images']);
  const id = 'req-11111111-2222-4333-8444-555555555555';

  await withRequestId(id, () => failure(missing(client.session), 'SV_OPENSTACK_NOT_FOUND'));

  const [login = '', list = ''] = client.lines;
  assert.match(login, /^identity: POST \/identity\/v3\/auth\/tokens: 201 .*"openstack_request_id":"req-[0-9a-f-]{36}"/);
  assert.match(
    list,
    new RegExp(`^image: GET /image/v2/images: 200 .*"request_id":"${id}".*"openstack_request_id":"req-`),
  );
  assert.ok(client.cloud.asked.every(a => a.headers['x-openstack-request-id'] === id));
  assertNoSecret(client.lines.join('\n'));
});

test('a microversion that the service does not have is told as its age', async () => {
  await using client = await startClient(['microversion']);
  const request = { method: 'GET', path: '/volumes', microversion: '3.999' } as const;

  const error = await failure(client.session.request('volumev3', request, soon()), 'SV_OPENSTACK_REFUSED');

  assert.match(explain(error), /maximum is 3\.70.*too old/);
  assert.equal(client.cloud.asked[1]?.headers['openstack-api-version'], 'volume 3.999');
});

test('many requests take one connection, and leave nothing at the signal that they were given', async () => {
  await using client = await startClient(['images']);
  const glance = new Glance(client.session);
  const { signal } = new AbortController();

  for (let i = 0; i < 20; i++) {
    const image = await glance.image('demo-image', signal);
    await (await glance.download(image, signal)).toArray();
  }

  assert.equal(client.cloud.connections, 1);
  assert.equal(getEventListeners(signal, 'abort').length, 0);
});
