import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { ConsumeMessage } from 'amqplib';
import { Calls } from '../../../src/bus/rpc/calls.ts';
import { Replies } from '../../../src/bus/rpc/replies.ts';
import { parseRequest } from '../../../src/bus/rpc/request.ts';
import { watchedCall, watchedNotification, watchedVerdict } from '../../../src/bus/watched.ts';
import { schema } from '../../../src/config/schema.ts';
import { ShiftvolError } from '../../../src/errors.ts';

function message(headers: object, exchange = 'nova'): ConsumeMessage {
  const fields = { deliveryTag: 1, exchange, routingKey: 'notifications.info', consumerTag: 'c', redelivered: false };
  const properties = { contentType: 'application/json', headers };
  return { content: Buffer.from('{"no":"request"}'), fields, properties } as unknown as ConsumeMessage; // what is looked at of one
}
const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

test('a notification says whose it is, where it came from at first, and how often it was tried', () => {
  const command = {
    action: 'detach',
    instance: { ref: 'i-1' },
    volumeId: 'v-1',
    lazy: false,
    requestId: 'detach/i-1/v-1/req-1#2',
  } as const;
  const told = { kind: 'command', command, event: 'volume.detach.start', wildcard: false } as const;
  const headers = {
    traceparent: PARENT,
    'x-shiftvol-exchange': 'cinder',
    'x-shiftvol-routing-key': 'notifications.info',
    'x-shiftvol-attempt': '2',
  };
  const inner = { timestamp: '2026-11-24 15:23:19.548000' };

  assert.deepEqual(watchedNotification(message(headers, ''), told, 'id-1', inner), {
    by: 'notification',
    name: 'volume.detach.start',
    instance: 'i-1',
    requestId: 'req-1',
    volumeId: 'v-1',
    traceparent: PARENT,
    delivery: {
      exchange: 'cinder',
      routingKey: 'notifications.info',
      bodyBytes: 16,
      messageId: 'id-1',
      attempts: 2,
      sentAt: '2026-11-24T15:23:19.548Z',
    },
  });
});

test('what osprofiler says of a call becomes a traceparent; what is nothing of the kind, or its key, is not looked at', () => {
  const traced = (info: unknown) => {
    const parsed = parseRequest({ method: 'm', _context_trace_info: info });
    return parsed.ok ? watchedCall(message({}), parsed.value).traceparent : 'refused';
  };
  const base_id = '0af76519-16cd-43dd-8448-eb211c80319c';
  const parent_id = 'ffffffff-ffff-4fff-b7ad-6b7169203331';

  assert.equal(traced({ hmac_key: 'k', base_id, parent_id }), PARENT);
  for (const other of [undefined, null, 'x', [], { base_id }, { base_id, parent_id: 7 }, { base_id: 'x', parent_id }])
    assert.equal(traced(other), undefined, JSON.stringify(other));
  const parsed = parseRequest({ method: 'm', _context_trace_info: { base_id, parent_id } });
  assert.ok(parsed.ok);
  const own = PARENT.replace('b7', 'c8');
  assert.equal(
    watchedCall(message({ traceparent: own }), parsed.value).traceparent,
    own,
    'the header says it more closely',
  );
});

test('what was ignored is no failure; what is tried again, or not any more, is one', () => {
  const error = new ShiftvolError('SV_BUSY', 'Cannot');

  assert.deepEqual(watchedVerdict({ kind: 'ignore', reason: 'nothing-there' }), { outcome: 'nothing-there' });
  assert.deepEqual(watchedVerdict({ kind: 'retry', error }), { outcome: 'retry', failure: error });
  assert.deepEqual(watchedVerdict({ kind: 'bury', error }), { outcome: 'dead-letter', failure: error });
});

test('a thousand messages that are no requests are twenty lines of the log, and a thousand in the count', async () => {
  const lines: string[] = [];
  const say = (text: string) => void lines.push(text);
  const log = { debug: say, info: say, warn: say, error: say };
  const config = { ...schema({ host: 'h' }, []), host: 'h', poolDir: '/none', file: 'test' };
  const calls = new Calls(config, [], new Replies({ log, maxBytes: 1000 }), log);

  for (let i = 0; i < 1000; i++) calls.take(message({}), { accept: () => true, giveBack: () => {} });
  await turn();

  assert.deepEqual(new Set(lines), new Set(['dropped what is no request']));
  assert.deepEqual([lines.length, calls.counters.malformed], [20, 1000]);
});
