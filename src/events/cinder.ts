/**
 * Cinder's `volume.attach.end` and `volume.detach.start`: the only ones that tell of volumes given at boot, at delete, by a
 * migration; and `volume.resize.end`. They carry connection_info with secrets: those fields are not even read.
 */
import * as z from 'zod';
import type { HostFilter, Reading } from './happening.ts';
import { firstId, type Notification, parse } from './notification.ts';
import { rawField, uuid } from './nova.ts';

/** More bytes are no safe integer. */
const MAX_GIB = 2 ** 22;

const payload = z.object({
  volume_id: uuid,
  size: z.optional(z.nullable(z.int().check(z.positive(), z.lte(MAX_GIB)))),
  volume_attachment: z.array(
    z.object({
      instance_uuid: z.optional(z.nullable(uuid)),
      attached_host: z.optional(z.nullable(z.string())),
      attach_time: z.optional(z.nullable(z.string())),
      attach_mode: z.optional(z.nullable(z.string())),
      attach_status: z.optional(z.nullable(z.string())),
    }),
  ),
});
type CinderAttachment = z.infer<typeof payload>['volume_attachment'][number];

export function readCinder(kind: 'attach' | 'detach' | 'resize', n: Notification, hosts: HostFilter): Reading {
  const raw = rawField(n.payload, 'volume_attachment');
  const ours = (host: unknown) => typeof host === 'string' && hosts.has(host);
  if (Array.isArray(raw) && !raw.some(a => ours(rawField(a, 'attached_host'))))
    return { kind: 'ignored', reason: 'other-host' };
  const parsed = parse(payload, n.payload, 'payload');
  if (!parsed.ok) return { kind: 'invalid', reason: parsed.reason };
  const { volume_id: volumeId, volume_attachment: attachments, size } = parsed.value;
  if (kind === 'resize' && (size === null || size === undefined))
    return { kind: 'invalid', reason: 'payload.size: expected the size in GiB' };

  const here = kind === 'resize' ? attachments.filter(a => ours(a.attached_host)) : attachments;
  const meant = kind === 'attach' ? newest(here) : only(here);
  if (meant === undefined) return { kind: 'ignored', reason: 'ambiguous' };
  if (!ours(meant.attached_host)) return { kind: 'ignored', reason: 'other-host' };
  // A volume attached to the host itself, for example by Cinder's image copy.
  if (!meant.instance_uuid) return { kind: 'ignored', reason: 'no-instance' };
  // Nova hands its request id on as the global one, so that both tell of one request.
  const requestId = firstId(n._context_global_request_id, n._context_request_id, n.message_id, n._unique_id);
  return {
    kind: 'happening',
    happening: {
      host: meant.attached_host ?? null,
      instance: meant.instance_uuid,
      volumeId,
      ...(meant.attach_mode === 'ro' ? { readOnly: true } : {}),
      ...(kind === 'resize' && size ? { sizeBytes: size * 2 ** 30 } : {}),
      ...(requestId === undefined ? {} : { requestId }),
    },
  };
}

/** A volume attached several times (multiattach, live migration) lists them all: the event is about the one attached last. */
function newest(attachments: readonly CinderAttachment[]): CinderAttachment | undefined {
  const attached = attachments.filter(a => a.attach_status === 'attached' || a.attach_status === undefined);
  const time = (a: CinderAttachment) => a.attach_time ?? '';
  const latest = attached.reduce<CinderAttachment | undefined>(
    (best, a) => (best === undefined || time(a) > time(best) ? a : best),
    undefined,
  );
  return latest !== undefined && attached.filter(a => time(a) === time(latest)).length === 1 ? latest : undefined;
}

/** Which of several is being detached, Cinder does not say; to guess could take a volume from the wrong instance. */
function only(attachments: readonly CinderAttachment[]): CinderAttachment | undefined {
  return attachments.length === 1 ? attachments[0] : undefined;
}
