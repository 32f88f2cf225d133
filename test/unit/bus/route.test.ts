import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostPattern, routeKey } from '../../../src/bus/route.ts';

test('a key has its host as one word, so that no host gets what is for another whose name begins alike', () => {
  assert.equal(routeKey('node1', 'instance.create.start'), 'host.node1.instance.create.start');
  assert.equal(routeKey('node1.example.org', 'volume.attach.end'), 'host.node1%2Eexample%2Eorg.volume.attach.end');
  assert.equal(hostPattern('node1.example.org'), 'host.node1%2Eexample%2Eorg.#');
  assert.equal(hostPattern('node1'), 'host.node1.#');
});

test('a host named like a pattern binds to nothing but itself', () => {
  assert.equal(hostPattern('*'), 'host.%2A.#');
  assert.equal(hostPattern('#'), 'host.%23.#');
  assert.notEqual(routeKey('a%2Eb', 'e'), routeKey('a.b', 'e'));
});

test('a host whose key AMQP could not carry has none', () => {
  assert.equal(routeKey('n'.repeat(244), 'event'), `host.${'n'.repeat(244)}.event`);
  assert.equal(routeKey('n'.repeat(245), 'event'), undefined);
  assert.equal(routeKey('é'.repeat(130), 'event'), undefined);
});
