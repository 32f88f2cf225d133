import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from '../../../src/bus/envelope.ts';
import { notificationOf } from '../../../src/bus/notification.ts';
import type { AttachmentEvent } from '../../../src/engine/model.ts';

const event: AttachmentEvent = {
  action: 'attach',
  phase: 'end',
  instance: 'i',
  target: '/mnt',
  volumeId: 'v',
  requestId: 'attach/i/v/req-1',
  host: 'h',
  at: '2026-11-24T15:23:19.548Z',
  durationMs: 4.2,
  steps: [{ step: 'mount', ms: 1 }],
};
const inner = (e: AttachmentEvent, id = 1) => {
  const { content, contentType } = notificationOf({ id, event: e });
  const decoded = decode({ content, properties: { contentType } }, 2 ** 20);
  return decoded.ok ? decoded.inner : assert.fail(decoded.reason);
};

test('an event is a notification in oslo.messaging’s shape, with every key of the payload', () => {
  const { messageId } = notificationOf({ id: 1, event });

  assert.deepEqual(inner(event), {
    message_id: messageId,
    _unique_id: messageId.replaceAll('-', ''),
    publisher_id: 'shiftvol.h',
    event_type: 'shiftvol.attach.end',
    priority: 'INFO',
    timestamp: '2026-11-24 15:23:19.548000',
    payload: {
      instance_uuid: 'i',
      volume_id: 'v',
      template: null,
      attachment_id: null,
      target: '/mnt',
      host: 'h',
      request_id: 'attach/i/v/req-1',
      duration_ms: 4.2,
      steps: [{ step: 'mount', ms: 1 }],
      error: null,
    },
    _context_request_id: 'req-1',
  });
});

test('a failure is told with priority error', () => {
  const told = notificationOf({
    id: 1,
    event: { ...event, phase: 'error', error: { code: 'SV_MOUNT', message: 'm' } },
  });

  assert.equal(told.priority, 'error');
});

test('the message id is the same when it is told again, and another for every other entry', () => {
  const id = (n: number, e = event) => notificationOf({ id: n, event: e }).messageId;

  assert.equal(id(1), id(1));
  assert.match(id(1), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(
    new Set([id(1), id(2), id(1, { ...event, host: 'g' }), id(1, { ...event, at: '2026-01-01T00:00:00Z' })]).size,
    4,
  );
});
