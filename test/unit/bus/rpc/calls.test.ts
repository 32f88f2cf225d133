import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Message } from 'amqplib';
import { Calls } from '../../../../src/bus/rpc/calls.ts';
import type { RpcEndpoint } from '../../../../src/bus/rpc/endpoint.ts';
import { Replies } from '../../../../src/bus/rpc/replies.ts';
import { schema } from '../../../../src/config/schema.ts';

const log = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };

/** A queue of casts of `work(name)`, which ends when it is told to, and a host that takes them as a broker gives them out. */
function makeHost({ parallel, maxHeldBytes }: { parallel: number; maxHeldBytes: number }) {
  const ends = new Map<string, () => void>();
  const begun: string[] = [];
  const work = async ({ name }: Readonly<Record<string, unknown>>) => {
    begun.push(String(name));
    await new Promise<void>(resolve => ends.set(String(name), resolve));
  };
  const endpoint: RpcEndpoint = { version: '1.0', methods: new Map([['work', work]]) };
  const config = { ...schema({ host: 'h', rpc: { parallel } }, []), host: 'h', poolDir: '/none', file: 'test' };
  const calls = new Calls(config, [endpoint], new Replies({ log, maxBytes: 1000 }), log, maxHeldBytes);
  const queue: Message[] = [];
  const give = () => {
    for (const message of queue.splice(0))
      calls.take(message, { accept: () => true, giveBack: () => void queue.push(message) });
  };
  return {
    calls,
    begun,
    queue,
    give,
    put(...messages: readonly Message[]) {
      queue.push(...messages);
      give();
    },
    async end(name: string) {
      ends.get(name)?.();
      for (let i = 0; i < 5; i++) await turn();
    },
  };
}

function cast(name: string, bytes: number): Message {
  const inner = JSON.stringify({ method: 'work', args: { name, filler: '' } });
  const envelope = JSON.stringify({ 'oslo.version': '2.0', 'oslo.message': inner });
  const content = Buffer.from(envelope.replace('filler', 'x'.repeat(bytes - envelope.length + 'filler'.length)));
  const properties = { contentType: 'application/json', contentEncoding: 'utf-8' };
  return { content, fields: { deliveryTag: 1 }, properties } as unknown as Message; // what is looked at of one
}

test('requests above the limit of bytes are not held, and each is carried out once, in the order of the queue', async () => {
  const host = makeHost({ parallel: 1, maxHeldBytes: 3000 });
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];

  host.put(...names.map(name => cast(name, 1000)));
  assert.equal(host.calls.heldBytes, 3000, 'one that runs, two that wait');
  for (const name of names) {
    await host.end(name);
    assert.ok(host.calls.heldBytes <= 3000);
    host.give();
  }

  assert.deepEqual(host.begun, names);
  assert.equal(host.calls.heldBytes, 0);
  assert.deepEqual(host.queue, []);
});

test('what runs counts: a slot that is free takes no more than there is room for', async () => {
  const host = makeHost({ parallel: 8, maxHeldBytes: 3000 });

  host.put(...['a', 'b', 'c', 'd'].map(name => cast(name, 1000)));
  assert.deepEqual(host.begun, ['a', 'b', 'c']);
  await host.end('b');
  assert.deepEqual(host.queue.length, 1, 'it is back with the broker');
  host.give();

  assert.deepEqual(host.begun, ['a', 'b', 'c', 'd']);
});

test('a request that is larger than the limit is carried out by itself', async () => {
  const host = makeHost({ parallel: 8, maxHeldBytes: 3000 });

  host.put(cast('large', 9000), cast('small', 500));
  assert.deepEqual(host.begun, ['large']);
  await host.end('large');
  host.give();

  assert.deepEqual(host.begun, ['large', 'small']);
});

test('where nothing runs any more all that was not held goes back: another host may take it', async () => {
  const host = makeHost({ parallel: 1, maxHeldBytes: 1000 });

  host.put(...['a', 'b', 'c', 'd'].map(name => cast(name, 1000)));
  await host.end('a');

  assert.equal(host.queue.length, 3);
  assert.equal(host.calls.heldBytes, 0);
});

test('what the broker has forgotten is held, whatever it takes', async () => {
  const host = makeHost({ parallel: 1, maxHeldBytes: 1000 });

  for (const name of ['a', 'b']) host.calls.take(cast(name, 1000), { accept: () => true });
  await host.end('a');

  assert.deepEqual(host.begun, ['a', 'b']);
});
