import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseRequest } from '../../../../src/bus/rpc/request.ts';

const call = {
  method: 'echo',
  args: { value: { a: 1 } },
  version: '1.2',
  _msg_id: 'a167282cb1e24879a1829ccd1a31d5da',
  _reply_q: 'reply_bc023511e84c484e878b0a4c77f31ed6',
  _timeout: null,
  _unique_id: '2e33',
  _context_request_id: 'req-9',
  _context_auth_token: 'gAAAAsecret',
};

test('a call as Python sends it', () => {
  assert.deepEqual(parseRequest(call), {
    ok: true,
    value: {
      method: 'echo',
      args: { value: { a: 1 } },
      version: '1.2',
      reply: { queue: call._reply_q, messageId: call._msg_id },
      uniqueId: '2e33',
      context: { requestId: 'req-9' },
    },
  });
});

test('what is left out has oslo.messaging’s defaults; newer reply queues have a name of another form', () => {
  assert.deepEqual(parseRequest({ method: 'm' }), {
    ok: true,
    value: { method: 'm', args: {}, version: '1.0', context: {} },
  });
  const newer = parseRequest({
    method: 'm',
    namespace: null,
    version: null,
    _msg_id: 'm',
    _reply_q: 'reply_host:nova-compute:1',
  });
  assert.deepEqual(newer.ok && newer.value.reply, { queue: 'reply_host:nova-compute:1', messageId: 'm' });
});

test('the caller’s patience is a number of at least two seconds, or none', () => {
  for (const [given, seconds] of [
    [60, 60],
    [2, 2],
    [2.9, 2],
    [1e9, 86_400],
    [1, undefined],
    [-1, undefined],
    [null, undefined],
    ['60', undefined],
    [{}, undefined],
  ] as const) {
    const parsed = parseRequest({ ...call, _timeout: given });
    assert.equal(parsed.ok ? parsed.value.monitorS : 'refused', seconds, JSON.stringify(given));
  }
});

test('a reply goes to reply queues only', () => {
  for (const queue of [
    undefined,
    null,
    '',
    'notifications.info',
    'xreply_1',
    7,
    'reply_\n',
    `reply_${'x'.repeat(300)}`,
  ])
    assert.equal(parseRequest({ ...call, _reply_q: queue }).ok, false, String(queue));
});

test('no request whatever throws, nor has a token', () => {
  const { _context_auth_token: token, ...rest } = call;
  const value = fc.oneof(fc.anything(), fc.constantFrom(...Object.values(rest)));
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...Object.keys(rest)), value), message => {
      const text = JSON.stringify(parseRequest({ ...message, args: {}, _context_auth_token: token }));
      assert.ok(!text.includes(token));
    }),
  );
});
