/** An event of ours as an oslo.messaging notification. Pure. */
import { createHash } from 'node:crypto';
import { openstackRequestId } from '../engine/channels.ts';
import type { AttachmentEvent } from '../engine/model.ts';
import { encode } from './envelope.ts';
import type { OutboxEntry } from './outbox.ts';

export type OutgoingNotification = ReturnType<typeof encode> & {
  readonly priority: 'info' | 'error';
  readonly messageId: string;
};

/**
 * The entry's number and time make the message id, so that an event that has to be told twice has the same one: readers may drop it.
 * Absent values are null, as everywhere in notifications, so that every key is always there.
 */
export function notificationOf({ id, event }: OutboxEntry): OutgoingNotification {
  const messageId = stableUuid(`${event.host}\n${id}\n${event.at}`);
  const priority = event.phase === 'error' ? 'error' : 'info';
  const body = encode({
    message_id: messageId,
    _unique_id: messageId.replaceAll('-', ''),
    publisher_id: `shiftvol.${event.host}`,
    event_type: `shiftvol.${event.action}.${event.phase}`,
    priority: priority.toUpperCase(),
    timestamp: timestamp(event.at),
    payload: payload(event),
    _context_request_id: openstackRequestId(event.requestId) ?? null,
  });
  return { ...body, priority, messageId };
}

function payload(event: AttachmentEvent) {
  return {
    instance_uuid: event.instance,
    volume_id: event.volumeId ?? null,
    template: event.template ?? null,
    attachment_id: event.attachmentId ?? null,
    target: event.target ?? null,
    host: event.host,
    request_id: event.requestId ?? null,
    duration_ms: event.durationMs ?? null,
    steps: event.steps ?? null,
    error: event.error ?? null,
  };
}

/** `2026-11-24 15:23:19.548000`: UTC without a zone, as oslo.messaging writes it. */
function timestamp(iso: string): string {
  const date = new Date(iso);
  const text = Number.isNaN(date.getTime()) ? iso : date.toISOString();
  return text.replace('T', ' ').replace(/Z$/, '000');
}

/** Version 8 (of our own making) of RFC 9562. */
function stableUuid(text: string): string {
  const h = createHash('sha256').update(text).digest('hex');
  const variant = ((Number.parseInt(h.charAt(16), 16) & 3) | 8).toString(16);
  return [h.slice(0, 8), h.slice(8, 12), `8${h.slice(13, 16)}`, `${variant}${h.slice(17, 20)}`, h.slice(20, 32)].join(
    '-',
  );
}
