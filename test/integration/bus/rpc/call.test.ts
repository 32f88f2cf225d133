import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { healthEndpoints } from '../../../../src/bus/rpc/health.ts';
import { BusService } from '../../../../src/bus/service.ts';
import type { Command } from '../../../../src/engine/model.ts';
import { type RpcClient, rpcClient } from '../../../rig/oslo/rpc.ts';
import { type Rabbit, startRabbit } from '../../../rig/rabbit.ts';
import { attachNote, bodyOf, configFor, JSON_PROPERTIES, MemoryOutbox, rawChannel, until } from '../helpers.ts';
import { rpcConfig, serve } from './helpers.ts';

const NOVA = existsSync('/usr/lib/python3/dist-packages/nova/exception.py');

let rabbit: Rabbit;
let service: Awaited<ReturnType<typeof serve>>;
let python: RpcClient;
before(async () => {
  rabbit = await startRabbit();
  service = await serve(rpcConfig(rabbit.url));
  python = await rpcClient(rabbit.url, [
    'remote_errors',
    'oslo_messaging.rpc.dispatcher',
    ...(NOVA ? ['nova.exception'] : []),
  ]);
});
after(async () => {
  await python?.[Symbol.asyncDispose]();
  await service?.[Symbol.asyncDispose]();
  await rabbit?.[Symbol.asyncDispose]();
});
const node1 = { server: 'node1' } as const;

test('a Python client gets the result, whatever JSON it is', async () => {
  for (const value of [null, 0, -1.5, 'ünï☃𝄞\u0000"\\', [1, [2]], { a: { b: null } }, 'x'.repeat(2 ** 20)]) {
    assert.deepEqual(await python.ask({ method: 'echo', args: { value }, ...node1 }), { result: value });
  }
  assert.deepEqual(await python.ask({ method: 'none', ...node1 }), { result: null });
});

test('a call without a server is answered by whoever takes it', async () => {
  assert.deepEqual(await python.ask({ method: 'whoami' }), { result: 'node1' });
});

test('monitoring is answered: ping in baseapi, with and without its version, and oslo_rpc_server_ping', async () => {
  const ping = { method: 'ping', args: { arg: 7 }, namespace: 'baseapi', ...node1 };
  const pong = { result: { service: 'shiftvol', arg: 7 } };
  assert.deepEqual(await python.ask({ ...ping, version: '1.1' }), pong);
  assert.deepEqual(await python.ask(ping), pong);
  assert.deepEqual(await python.ask({ method: 'get_backdoor_port', namespace: 'baseapi', ...node1 }), { result: null });
  assert.deepEqual(await python.ask({ method: 'oslo_rpc_server_ping', ...node1 }), { result: 'pong' });
  assert.ok(service.bus.status.healthy);
});

test('a cast and a fanout run, and get no reply', async () => {
  const before = service.called.length;
  const { sent } = service.status.counters;

  assert.deepEqual(await python.ask({ kind: 'cast', method: 'echo', args: { value: 'cast' }, ...node1 }), {
    result: null,
  });
  assert.deepEqual(await python.ask({ kind: 'cast', method: 'fail', args: { kind: 'typed', id: 1 } }), {
    result: null,
  });
  assert.deepEqual(await python.ask({ kind: 'fanout', method: 'echo', args: { value: 'fanout' } }), { result: null });
  await until('called', () => service.called.length === before + 3 && service.status.running === 0);

  assert.deepEqual(
    service.called
      .slice(before)
      .map(c => c.args['value'])
      .sort(),
    ['cast', 'fanout', undefined],
  );
  assert.equal(service.status.counters.sent, sent);
});

test('versions: 1.0 to 1.3 are understood, 1.4, 2.0 and other namespaces are not', async () => {
  for (const version of ['1.0', '1.3'])
    assert.deepEqual(await python.ask({ method: 'echo', args: { value: 1 }, version, ...node1 }), { result: 1 });
  for (const wrong of [{ version: '1.4' }, { version: '2.0' }, { version: '0.9' }, { namespace: 'other' }]) {
    const answer = await python.ask({
      method: 'echo',
      ...wrong,
      ...node1,
      except: 'oslo_messaging.rpc.dispatcher.UnsupportedVersion',
    });
    assert.ok(answer.caught, JSON.stringify(answer));
    assert.match(answer.text ?? '', /Endpoint does not support RPC version \d\.\d. Attempted method: echo/);
  }
});

test('a method that is not there, or is private, is NoSuchMethod', async () => {
  for (const method of ['nothing', '_private', 'constructor', '__proto__']) {
    const answer = await python.ask({ method, ...node1, except: 'oslo_messaging.rpc.dispatcher.NoSuchMethod' });
    assert.ok(answer.caught, JSON.stringify(answer));
    assert.match(answer.text ?? '', new RegExp(`Endpoint does not support RPC method ${method}`));
  }
});

test('wrong arguments are a TypeError', async () => {
  const ping = { method: 'ping', namespace: 'baseapi', ...node1, except: 'builtins.TypeError' };
  const missing = await python.ask(ping);
  const surplus = await python.ask({ ...ping, args: { arg: 1, more: 2 } });
  const shape = await python.ask({
    method: 'fail',
    args: { kind: 'arguments' },
    ...node1,
    except: 'builtins.TypeError',
  });

  assert.ok(missing.caught && surplus.caught && shape.caught);
  assert.match(surplus.text ?? '', /unexpected keyword argument 'more'/);
  assert.match(shape.text ?? '', /id is no uuid/);
});

test('an exception of a module that the client allows is caught by its class, with its fields', async () => {
  const answer = await python.ask({
    method: 'fail',
    args: { kind: 'own', id: 'i-1' },
    ...node1,
    except: 'remote_errors.InstanceNotFound',
  });

  assert.ok(answer.caught);
  assert.deepEqual(answer.kwargs, { instance_id: 'i-1' });
  assert.equal(answer.text?.trim(), 'Instance i-1 could not be found.');
});

test('Nova’s own except clause catches nova.exception.InstanceNotFound', { skip: !NOVA }, async () => {
  const answer = await python.ask({
    method: 'fail',
    args: { kind: 'typed', id: 'i-1' },
    ...node1,
    except: 'nova.exception.InstanceNotFound',
  });

  assert.ok(answer.caught, JSON.stringify(answer));
  assert.equal(answer.kwargs?.['instance_id'], 'i-1');
  assert.equal(answer.kwargs?.['code'], 404);
});

test('an error of ours that nobody translated is a RemoteError with its code, and no traceback', async () => {
  const answer = await python.ask({ method: 'fail', args: { kind: 'shiftvol' }, ...node1 });

  assert.equal(answer.error, 'oslo_messaging.rpc.client.RemoteError');
  assert.deepEqual(answer.remote, { type: 'ShiftvolError', value: 'Cannot detach: a process uses it', traceback: [] });
});

test('a fault of ours tells nothing of itself to the caller, and all to the log', async () => {
  const { remote } = await python.ask({ method: 'fail', args: { kind: 'fault' }, ...node1 });

  assert.equal(remote?.value, 'Cannot carry out "fail": a fault of shiftvol itself, its log says which');
  assert.deepEqual(remote?.traceback, []);
  assert.ok(service.lines.some(l => l.message.includes('secret detail of a fault of ours')));
});

test('what is no JSON is told as a failure, not as silence', async () => {
  const cyclic = await python.ask({ method: 'fail', args: { kind: 'cyclic' }, ...node1 });
  const big = await python.ask({ method: 'fail', args: { kind: 'other' }, ...node1, except: 'builtins.ValueError' });

  assert.equal(cyclic.remote?.type, 'ShiftvolError');
  assert.ok(big.caught, JSON.stringify(big));
  assert.match(big.text ?? '', /no such kind/);
});

test('a reply above the limit is told as a failure', async () => {
  await using small = await serve(rpcConfig(rabbit.url, { topic: 'small' }, { bus: { max_message: '64KiB' } }));

  const fits = await python.ask({ topic: 'small', method: 'big', args: { bytes: 60_000 } });
  const answer = await python.ask({ topic: 'small', method: 'big', args: { bytes: 70_000 } });

  assert.equal(String(fits.result).length, 60_000);
  assert.equal(answer.remote?.type, 'ShiftvolError');
  assert.equal(small.called.length, 2);
});

test('a call that takes longer than the client’s monitor allows is kept alive by heartbeats', async () => {
  const slow = { method: 'slow', args: { seconds: 5 }, timeout: 30, ...node1 };

  assert.deepEqual(await python.ask({ ...slow, monitor: 2 }), { result: 5 });
});

test('the context’s ids come to the method; its token comes nowhere', async () => {
  const context = {
    request_id: 'req-7',
    global_request_id: 'req-8',
    user_id: 'u',
    project_id: 'p',
    auth_token: 'gAAAAsecret',
  };
  await python.ask({ method: 'echo', args: { value: 1 }, context, ...node1 });
  await python.ask({ method: 'fail', args: { kind: 'typed', id: 1 }, context, ...node1 });

  const { signal, ...call } = service.called.findLast(c => c.method === 'echo')?.call ?? {};
  assert.ok(signal && !signal.aborted);
  const ids = { requestId: 'req-7', globalRequestId: 'req-8', userId: 'u', projectId: 'p' };
  assert.deepEqual(call, { method: 'echo', ...ids });
  assert.ok(!JSON.stringify([service.lines, service.called, service.bus.status]).includes('gAAAAsecret'));
  assert.ok(service.lines.some(l => JSON.stringify(l.fields).includes('req-7')));
});

test('notifications and calls come to one host on one broker, each to where it belongs', async () => {
  const commands: Command[] = [];
  await using raw = await rawChannel(rabbit.url);
  await raw.channel.assertExchange('nova', 'topic', { durable: false });
  const config = { ...configFor(rabbit.url), host: 'node5' };
  const endpoints = healthEndpoints('shiftvol');
  const handle = async (command: Command) => void commands.push(command);
  const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  await using bus = new BusService({ config, handle, outbox: new MemoryOutbox(), endpoints, log }).start();
  await until('ready', () => bus.status.healthy && bus.status.listen[0]?.exchanges['nova'] === 'bound');

  for (let n = 0; n < 4; n++) {
    raw.channel.publish('nova', 'notifications.info', bodyOf(attachNote(n, 'node5')), JSON_PROPERTIES);
    const answer = await python.ask({ method: 'oslo_rpc_server_ping', server: 'node5' });
    assert.deepEqual(answer, { result: 'pong' });
  }
  await until('handled', () => commands.length === 4);

  assert.equal(bus.status.listen[0]?.counters.dead, 0);
  assert.equal(bus.status.rpc?.counters.malformed, 0);
});

test('200 calls at once come back, each with its own result', async () => {
  const values = Array.from({ length: 200 }, (_, n) => n);
  const answers = await Promise.all(values.map(value => python.ask({ method: 'echo', args: { value }, ...node1 })));

  assert.deepEqual(
    answers.map(a => a.result),
    values,
  );
});
