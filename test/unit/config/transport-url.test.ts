import assert from 'node:assert/strict';
import { test } from 'node:test';
import { maskUrl, parseTransportUrl, TransportUrlError } from '../../../src/config/transport-url.ts';

const guest = { host: 'localhost', port: 5672, user: 'guest', password: 'guest' };

test('reads every form that oslo.messaging reads', () => {
  const table: readonly [string, object][] = [
    ['rabbit://', { hosts: [guest], vhost: '/', tls: false }],
    ['rabbit:///', { hosts: [guest], vhost: '/', tls: false }],
    ['rabbit://h', { hosts: [{ ...guest, host: 'h' }], vhost: '/', tls: false }],
    ['rabbit://h//', { hosts: [{ ...guest, host: 'h' }], vhost: '/', tls: false }],
    ['rabbit://h//nova', { hosts: [{ ...guest, host: 'h' }], vhost: '/nova', tls: false }],
    ['rabbit://h/%2Fopenstack', { hosts: [{ ...guest, host: 'h' }], vhost: '/openstack', tls: false }],
    [
      'rabbit://u:p%40%2F%3A@h1:1,u2:p2@[::1]:2/v?ssl=true&ssl_ca_file=/ca.pem&heartbeat_timeout_threshold=30',
      {
        hosts: [
          { host: 'h1', port: 1, user: 'u', password: 'p@/:' },
          { host: '::1', port: 2, user: 'u2', password: 'p2' },
        ],
        vhost: 'v',
        tls: true,
        caFile: '/ca.pem',
        heartbeatSeconds: 30,
      },
    ],
    ['kombu+amqps://u:@h/', { hosts: [{ host: 'h', port: 5671, user: 'u', password: '' }], vhost: '/', tls: true }],
    ['rabbit://u:p:q@h/', { hosts: [{ host: 'h', port: 5672, user: 'u', password: 'p:q' }], vhost: '/', tls: false }],
  ];
  for (const [url, expected] of table) assert.deepEqual(parseTransportUrl(url), expected, url);
});

test('refuses what is none, without showing the password', () => {
  for (const url of [
    '',
    'h:5672',
    'http://u:secret@h',
    'rabbit://u:secret@h:x',
    'rabbit://u:secret@h:0/',
    'rabbit://u:secret%ZZ@h',
    'rabbit://u:secret@[h/',
  ])
    assert.throws(
      () => parseTransportUrl(url),
      (e: Error) => e instanceof TransportUrlError && !e.message.includes('secret'),
      url,
    );
});

test('maskUrl takes every password and the query out', () => {
  assert.equal(maskUrl('rabbit://u:a@h1:1,v:b@@h2/v?x=secret'), 'rabbit://u:***@h1:1,v:***@h2/v');
  assert.equal(maskUrl('rabbit://h'), 'rabbit://h');
  assert.equal(maskUrl('u:secret@h'), '(not a URL)');
});
