import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findMethod } from '../../../../src/bus/rpc/dispatch.ts';
import { RemoteError, type RpcEndpoint, type RpcMethod } from '../../../../src/bus/rpc/endpoint.ts';
import { healthEndpoints } from '../../../../src/bus/rpc/health.ts';

const endpoint = (version: string, names: readonly string[], namespace?: string): RpcEndpoint => ({
  version,
  methods: new Map(names.map(name => [name, (async () => `${version} ${name}`) satisfies RpcMethod])),
  ...(namespace === undefined ? {} : { namespace }),
});
const endpoints = [
  endpoint('1.3', ['a', '_hidden']),
  endpoint('2.1', ['a', 'b']),
  endpoint('1.0', ['late']),
  endpoint('1.0', ['a'], 'n'),
];
const call = { signal: new AbortController().signal };
const found = async (method: string, version: string, namespace?: string) => {
  const wanted = { method, version, ...(namespace === undefined ? {} : { namespace }) };
  return findMethod(endpoints, wanted)({}, { method, ...call });
};
const refusal = (method: string, version: string, namespace?: string) => {
  try {
    findMethod(endpoints, { method, version, ...(namespace === undefined ? {} : { namespace }) });
  } catch (error) {
    assert.ok(error instanceof RemoteError);
    assert.equal(error.module, 'oslo_messaging.rpc.dispatcher');
    return error.className;
  }
  return 'none';
};

test('the first endpoint of the namespace that understands the version and has the method', async () => {
  assert.equal(await found('a', '1.0'), '1.3 a');
  assert.equal(await found('a', '1.3'), '1.3 a');
  assert.equal(await found('a', '2.0'), '2.1 a');
  assert.equal(await found('late', '1.0'), '1.0 late');
  assert.equal(await found('a', '1.0', 'n'), '1.0 a');
});

test('what there is not, is refused as Python does', () => {
  assert.equal(refusal('a', '1.4'), 'UnsupportedVersion');
  assert.equal(refusal('a', '3.0'), 'UnsupportedVersion');
  assert.equal(refusal('a', '1.0', 'm'), 'UnsupportedVersion');
  assert.equal(refusal('a', '1'), 'UnsupportedVersion');
  assert.equal(refusal('a', '1.-1'), 'UnsupportedVersion');
  assert.equal(refusal('a', '01.0x'), 'UnsupportedVersion');
  assert.equal(refusal('b', '1.0'), 'NoSuchMethod');
  assert.equal(refusal('late', '1.3'), 'NoSuchMethod');
  assert.equal(refusal('_hidden', '1.0'), 'NoSuchMethod');
  assert.equal(refusal('toString', '1.0'), 'NoSuchMethod');
});

test('ping takes its one argument by name, also where it is null', async () => {
  const [baseApi] = healthEndpoints('shiftvol');
  const ping = baseApi?.methods.get('ping');
  assert.ok(ping);

  assert.deepEqual(await ping({ arg: null }, { method: 'ping', ...call }), { service: 'shiftvol', arg: null });
  await assert.rejects(ping({}, { method: 'ping', ...call }), { className: 'TypeError', module: 'builtins' });
  await assert.rejects(ping({ arg: 1, x: 2 }, { method: 'ping', ...call }), { className: 'TypeError' });
});
