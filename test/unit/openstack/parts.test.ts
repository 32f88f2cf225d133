import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Catalog, endpointOf } from '../../../src/openstack/catalog.ts';
import { findCloud } from '../../../src/openstack/cloud.ts';
import { codeOf, wordsOf } from '../../../src/openstack/openstack-error.ts';
import { asGlobalRequestId } from '../../../src/openstack/request-id.ts';
import { delayAfter, mayRetryStatus, mayRetryTrouble, RETRY, toldDelay } from '../../../src/openstack/retry.ts';
import { redact, Secret } from '../../../src/openstack/secret.ts';

const cloud = (more: Readonly<Record<string, string>> = {}) =>
  findCloud({ env: { OS_AUTH_URL: 'http://k', OS_TOKEN: 't', ...more } });
const service = (type: string, url: string, more: { interface?: string; region?: string } = {}): Catalog[number] => ({
  type,
  endpoints: [{ interface: more.interface ?? 'public', url, region: more.region ?? 'r1' }],
});
const projectId = 'p1';

test('endpoints are completed, however they are registered', () => {
  const cases = [
    ['volumev3', 'http://c:8776/v3/p1', 'http://c:8776/v3/p1'],
    ['volumev3', 'http://c:8776/v3', 'http://c:8776/v3/p1'],
    ['volumev3', 'http://c/volume/', 'http://c/volume/v3/p1'],
    ['image', 'http://g:9292', 'http://g:9292/v2'],
    ['image', 'http://g:9292/v2/', 'http://g:9292/v2'],
    ['image', 'http://g:9292/v2.1', 'http://g:9292/v2.1'],
    ['compute', 'http://n:8774/v2.1', 'http://n:8774/v2.1'],
  ] as const;
  for (const [type, url, base] of cases)
    assert.equal(endpointOf(type, cloud(), { catalog: [service(type, url)], projectId }), base, url);
});

test('interface and region choose, and the official name of a service goes before older ones', () => {
  const catalog = [
    service('volume', 'http://old/v1/p1'),
    service('volumev3', 'http://v3/v3/p1'),
    service('block-storage', 'http://internal/v3/p1', { interface: 'internal' }),
    service('block-storage', 'http://r2/v3/p1', { region: 'r2' }),
  ];

  const at = (more: Readonly<Record<string, string>>) => endpointOf('volumev3', cloud(more), { catalog, projectId });
  assert.equal(at({ OS_REGION_NAME: 'r1' }), 'http://v3/v3/p1');
  assert.equal(at({ OS_REGION_NAME: 'r2' }), 'http://r2/v3/p1');
  assert.equal(at({ OS_INTERFACE: 'internal' }), 'http://internal/v3/p1');
  assert.equal(at({ OS_ENDPOINT_TYPE: 'internalURL' }), 'http://internal/v3/p1');
});

test('an override goes before the catalogue, and may name the project', () => {
  const over = cloud({ OS_VOLUMEV3_ENDPOINT_OVERRIDE: 'http://over/v3/%(project_id)s' });

  assert.equal(endpointOf('volumev3', over, { catalog: [], projectId }), 'http://over/v3/p1');
});

test('an endpoint that is not there is told with those that are', () => {
  const catalog = [service('image', 'http://g', { region: 'north' }), service('image', 'javascript:x')];

  assert.throws(
    () => endpointOf('image', cloud({ OS_REGION_NAME: 'south' }), { catalog, projectId }),
    /no public in region "south" endpoint, it has public in north, public in r1/,
  );
  assert.throws(() => endpointOf('compute', cloud(), { catalog, projectId }), /and no such service/);
});

test('a request is sent again only where that is safe', () => {
  for (const code of ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN']) assert.ok(mayRetryTrouble({ code }, false), code);
  for (const phase of ['lookup', 'connect', 'secureConnect'])
    assert.ok(mayRetryTrouble({ code: 'ETIMEDOUT', phase }, false), phase);
  for (const code of ['ECONNRESET', 'EPIPE', 'ETIMEDOUT']) {
    assert.ok(mayRetryTrouble({ code }, true), code);
    assert.ok(!mayRetryTrouble({ code }, false), code);
  }
  assert.ok(!mayRetryTrouble({ code: 'DEPTH_ZERO_SELF_SIGNED_CERT' }, true));
  assert.ok(mayRetryStatus(429, undefined, false));
  assert.ok(mayRetryStatus(503, 1000, false));
  assert.ok(!mayRetryStatus(503, undefined, false));
  assert.ok(mayRetryStatus(503, undefined, true));
  assert.ok(!mayRetryStatus(500, undefined, true));
});

test('Retry-After is read as seconds and as a date', () => {
  const now = Date.parse('Tue, 24 Nov 2026 21:00:00 GMT');

  assert.equal(toldDelay('3', now), 3000);
  assert.equal(toldDelay('Tue, 24 Nov 2026 21:00:07 GMT', now), 7000);
  assert.equal(toldDelay('Tue, 24 Nov 2026 20:00:00 GMT', now), 0);
  for (const none of [undefined, '', 'soon']) assert.equal(toldDelay(none, now), undefined);
});

test('delays grow to an end, and half of each is chance', () => {
  const of = (random: number) => [1, 2, 3, 9].map(attempt => delayAfter(attempt, RETRY, () => random));

  assert.deepEqual(of(0), [250, 500, 1000, 4000]);
  assert.deepEqual(of(1), [500, 1000, 2000, 8000]);
});

test("services' words are found in each of their forms", () => {
  const html =
    '<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n  No image found with ID x&#x27;y&#x27;<br /><br />\n\n\n </body>\n</html>';

  assert.equal(
    wordsOf('{"error": {"code": 401, "message": "The request needs it.", "title": "U"}}'),
    'The request needs it',
  );
  assert.equal(wordsOf('{"itemNotFound": {"code": 404, "message": "Volume x"}}'), 'Volume x');
  assert.equal(wordsOf('{"message": "a\\nb"}'), 'a b');
  assert.equal(wordsOf(html), "404 Not Found No image found with ID x'y'");
  for (const none of ['', '[]', 'null', '{}', 'Bad Gateway']) assert.equal(wordsOf(none), undefined, none);
  assert.ok((wordsOf(JSON.stringify({ message: 'x'.repeat(9999) })) ?? '').length <= 300);
});

test('each status has its code', () => {
  const codes = [400, 401, 403, 404, 409, 413, 429, 500, 503, 302].map(codeOf);

  assert.deepEqual(codes, [
    'SV_OPENSTACK_REFUSED',
    'SV_OPENSTACK_AUTH',
    'SV_OPENSTACK_REFUSED',
    'SV_OPENSTACK_NOT_FOUND',
    'SV_OPENSTACK_CONFLICT',
    'SV_OPENSTACK_REFUSED',
    'SV_OPENSTACK',
    'SV_OPENSTACK',
    'SV_OPENSTACK',
    'SV_OPENSTACK',
  ]);
});

test('a text is told without secrets and without the password of a URL', () => {
  const text = 'GET http://me:pass@proxy:3128/x with token-of-mine';

  assert.equal(redact(text, [new Secret('token-of-mine')]), 'GET http://***@proxy:3128/x with ***');
});

test('only what services would take is handed on as the global request id', () => {
  assert.ok(asGlobalRequestId('req-11111111-2222-4333-8444-555555555555'));
  for (const id of ['abc', 'req-1', undefined, 'req-11111111-2222-4333-8444-555555555555\r\nX: y'])
    assert.equal(asGlobalRequestId(id), undefined);
});
