import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { rpcClient } from '../../../rig/oslo/rpc.ts';
import { startProxy } from '../../../rig/proxy.ts';
import { type Rabbit, startRabbit } from '../../../rig/rabbit.ts';
import { until } from '../helpers.ts';
import { rpcConfig, serve } from './helpers.ts';

/** One for all: what a test leaves in it are a server's queues, empty, which the next one declares as they are. */
let rabbit: Rabbit;
before(async () => {
  rabbit = await startRabbit();
});
after(() => rabbit?.[Symbol.asyncDispose]());

const slow = (seconds: number) => ({ method: 'slow', args: { seconds }, server: 'node1', timeout: 60 }) as const;

test('a broker that restarts in the middle of a call: the caller gets its reply, and the next call is answered', async () => {
  await using service = await serve(rpcConfig(rabbit.url));
  await using python = await rpcClient(rabbit.url);
  assert.deepEqual(await python.ask(slow(0)), { result: 0 });

  const answer = python.ask(slow(3));
  await until('running', () => service.status.running === 1);
  await rabbit.kill();
  await until('the loss is seen', () => !service.bus.status.healthy);
  await until('ended, with nobody to tell', () => service.status.running === 0);
  await rabbit.start();

  assert.deepEqual(await answer, { result: 3 });
  await service.subscribed();
  assert.deepEqual(await python.ask(slow(0)), { result: 0 });
  assert.equal(service.called.length, 3, 'none ran twice');
});

/** Two ways to one broker, and which of them a server took. */
async function twoWays(serverPort: number) {
  const ways = [await startProxy(serverPort), await startProxy(serverPort)] as const;
  const url = `rabbit://${ways.map(w => `guest:guest@127.0.0.1:${w.port}`).join(',')}/`;
  return {
    url,
    taken(service: Awaited<ReturnType<typeof serve>>) {
      const line = JSON.stringify(service.lines.findLast(l => l.message === 'answers RPC')?.fields);
      const way = ways.find(w => line.includes(`127.0.0.1:${w.port}`));
      assert.ok(way);
      return way;
    },
    async [Symbol.asyncDispose]() {
      for (const way of ways) await way[Symbol.asyncDispose]();
    },
  };
}

test('a host that is lost in the middle of a call: the reply goes out through the other one', async () => {
  await using ways = await twoWays(rabbit.port);
  await using service = await serve(rpcConfig(ways.url));
  await using python = await rpcClient(rabbit.url);
  const first = ways.taken(service);
  const answer = python.ask(slow(2));
  await until('running', () => service.status.running === 1);

  await first[Symbol.asyncDispose]();
  await until('the loss is seen', () => !service.status.subscribed);
  await service.subscribed();

  assert.deepEqual(await answer, { result: 2 });
  assert.notEqual(ways.taken(service), first);
  assert.deepEqual(await python.ask(slow(0)), { result: 0 });
  assert.equal(service.called.length, 2);
});

test('a connection that says nothing any more is given up by its heartbeat, and the call is answered on the next', async () => {
  await using ways = await twoWays(rabbit.port);
  await using service = await serve(rpcConfig(ways.url, {}, { bus: { heartbeat_s: 1 } }));
  await using python = await rpcClient(rabbit.url);
  const first = ways.taken(service);
  const answer = python.ask(slow(1));
  await until('running', () => service.status.running === 1);

  first.swallow();

  assert.deepEqual(await answer, { result: 1 });
  await service.subscribed();
  assert.notEqual(ways.taken(service), first);
  assert.equal(service.called.length, 1);
});

test('a stop waits for calls and tells their callers; what came later stays in the queue', async () => {
  await using python = await rpcClient(rabbit.url);
  const service = await serve(rpcConfig(rabbit.url));
  const answer = python.ask(slow(1.5));
  await until('running', () => service.status.running === 1);

  const stopped = service[Symbol.asyncDispose]();
  await sleep(300);
  await python.ask({ method: 'echo', args: { value: 'later' }, server: 'node1', kind: 'cast' });
  await stopped;

  assert.deepEqual(await answer, { result: 1.5 });
  assert.equal(service.called.length, 1);
  await using next = await serve(rpcConfig(rabbit.url));
  await until('called', () => next.called.length === 1);
});

test('a stop that is to be at once interrupts calls, and tells their callers', async () => {
  await using python = await rpcClient(rabbit.url);
  const work = new AbortController();
  const service = await serve(rpcConfig(rabbit.url), work.signal);
  const answer = python.ask(slow(60));
  await until('running', () => service.status.running === 1);

  work.abort();
  await service[Symbol.asyncDispose]();

  const { remote } = await answer;
  assert.equal(remote?.type, 'ShiftvolError');
});

test('a stop while the broker is away does not wait for it', async () => {
  const service = await serve(rpcConfig(rabbit.url));
  await rabbit.kill();
  await until('the loss is seen', () => !service.status.subscribed);

  const started = performance.now();
  await service[Symbol.asyncDispose]();

  assert.ok(performance.now() - started < 3000);
  await rabbit.start();
});

test('a client that dies in the middle of its call holds nothing up', async () => {
  await using service = await serve(rpcConfig(rabbit.url));
  const dying = await rpcClient(rabbit.url);
  void dying.ask(slow(1)).catch(() => undefined);
  await until('running', () => service.status.running === 1);

  await dying.kill();
  await until('ended', () => service.status.running === 0);
  await using python = await rpcClient(rabbit.url);

  assert.deepEqual(await python.ask(slow(0)), { result: 0 });
});
