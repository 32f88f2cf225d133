import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Certificates, makeCertificates } from '../../../rig/certificates.ts';
import { rpcClient } from '../../../rig/oslo/rpc.ts';
import { type Rabbit, startRabbit } from '../../../rig/rabbit.ts';
import { rawChannel } from '../helpers.ts';
import { rpcConfig, serve } from './helpers.ts';

let rabbit: Rabbit;
let files: Certificates;
before(async () => {
  files = await makeCertificates();
  rabbit = await startRabbit({ tls: files });
});
after(async () => {
  await rabbit?.[Symbol.asyncDispose]();
  await files?.[Symbol.asyncDispose]();
});

/** What the operator sets for all services, and the same for us. */
const SETTINGS = [
  ['amqp_durable_queues=true', { durable: true }],
  ['rabbit_quorum_queue=true', { quorum: true }],
  ['amqp_auto_delete=true', { auto_delete: true }],
  ['kombu_compression=gzip', {}],
] as const;

for (const [query, rpc] of SETTINGS) {
  test(`a client with ${query}: whoever of us declares the exchanges first, calls, casts and fanouts arrive`, async () => {
    const name = query.replace('=', '.');
    await using python = await rpcClient(`${rabbit.url}?${query}`);
    const ask = (exchange: string) => ({ exchange, topic: exchange });
    const all = async (exchange: string) => {
      await using service = await serve(rpcConfig(rabbit.url, { ...rpc, exchange, topic: exchange }));
      const args = { value: 1 };
      assert.deepEqual(await python.ask({ ...ask(exchange), method: 'echo', args, server: 'node1' }), { result: 1 });
      assert.deepEqual(await python.ask({ ...ask(exchange), method: 'echo', args, kind: 'fanout' }), { result: null });
      assert.deepEqual(await python.ask({ ...ask(exchange), method: 'echo', args }), { result: 1 });
      assert.equal(service.called.length, 3);
      assert.ok(!service.lines.some(l => l.message.startsWith('exists with other arguments')));
    };

    await all(`${name}.ours`);
    await python.ask({ ...ask(`${name}.theirs`), method: 'echo', kind: 'cast' });
    await python.ask({ ...ask(`${name}.theirs`), method: 'echo', kind: 'fanout' });
    await all(`${name}.theirs`);
  });
}

test('the exchange of a client with other flags is used as it is, with a warning', async () => {
  await using python = await rpcClient(`${rabbit.url}?amqp_durable_queues=true`);
  const other = { exchange: 'other', topic: 'other' };
  await python.ask({ ...other, method: 'echo', kind: 'cast' });

  await using service = await serve(rpcConfig(rabbit.url, other));

  assert.deepEqual(await python.ask({ ...other, method: 'echo', args: { value: 1 } }), { result: 1 });
  assert.ok(service.lines.some(l => l.message.startsWith('exists with other arguments')));
});

test('a server that ends leaves no fanout queue, and its own queue keeps casts for the next one', async () => {
  await using python = await rpcClient(rabbit.url);
  await using raw = await rawChannel(rabbit.url);
  const at = { topic: 'kept', server: 'node1' };
  {
    await using _service = await serve(rpcConfig(rabbit.url, { topic: 'kept' }));
    await raw.channel.checkExchange('kept_fanout');
  }
  await python.ask({ ...at, method: 'echo', kind: 'cast', args: { value: 'later' } });
  assert.equal((await raw.channel.checkQueue('kept_rpc.node1')).messageCount, 1);
  // It deletes itself with its last queue.
  await assert.rejects(raw.channel.checkExchange('kept_fanout'), /404/);

  await using service = await serve(rpcConfig(rabbit.url, { topic: 'kept' }));

  assert.deepEqual(await python.ask({ ...at, method: 'echo', args: { value: 1 } }), { result: 1 });
  assert.deepEqual(
    service.called.map(c => c.args['value']),
    ['later', 1],
  );
});

test('two hosts: each has its own queue, both hear a fanout, and they share the topic', async () => {
  await using python = await rpcClient(rabbit.url);
  await using one = await serve(rpcConfig(rabbit.url, { topic: 'two' }));
  await using two = await serve(rpcConfig(rabbit.url, { topic: 'two' }, { host: 'node2' }));
  const whoami = { topic: 'two', method: 'whoami' };

  assert.equal((await python.ask({ ...whoami, server: 'node1' })).result, 'node1');
  assert.equal((await python.ask({ ...whoami, server: 'node2' })).result, 'node2');
  const shared = [await python.ask(whoami), await python.ask(whoami)].map(a => a.result);
  assert.deepEqual(shared.sort(), ['node1', 'node2']);
  const before = [one.called.length, two.called.length];
  await python.ask({ ...whoami, kind: 'fanout' });
  await python.ask({ ...whoami, server: 'node1' });
  await python.ask({ ...whoami, server: 'node2' });
  assert.deepEqual([one.called.length - (before[0] ?? 0), two.called.length - (before[1] ?? 0)], [2, 2]);
});

test('over TLS, with the CA of the configuration', async () => {
  const url = `rabbit://guest:guest@localhost:${rabbit.tlsPort}/?ssl=true`;

  await using _service = await serve(rpcConfig(url, {}, { bus: { tls: { ca: files.ca } } }));
  await using python = await rpcClient(`${url}&ssl_ca_file=${files.ca}`);

  assert.deepEqual(await python.ask({ method: 'echo', args: { value: 1 }, server: 'node1' }), { result: 1 });
});
