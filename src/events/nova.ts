/** Nova's two forms of the same events: `instance.*` with nova_object payloads, and the older `compute.instance.*`. */
import * as z from 'zod';
import type { Happening, HostFilter, IgnoredReason, Reading } from './happening.ts';
import { firstId, type Notification, type Parsed, parse, publisher, sentAt } from './notification.ts';

/** As OpenStack writes them; upper case is taken, too. */
export const uuid = z
  .string()
  .check(z.regex(/^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/, { message: 'Invalid UUID' }))
  .transform(text => text.toLowerCase());
const text = z.optional(z.nullable(z.string()));
const image = z.union([uuid, z.literal('')], { error: 'Invalid UUID, and not empty' });

/** Any minor version of major 1: later Novas add fields (2026.1: `shares`). */
function versionedPayload<T>(data: z.ZodType<T>) {
  return z.object({
    'nova_object.namespace': z.literal('nova'),
    'nova_object.version': z.string().check(z.regex(/^1\.\d+$/, { message: 'expected version 1.x' })),
    'nova_object.data': data,
  });
}
const versioned = {
  create: versionedPayload(z.object({ uuid, host: text, request_id: text, image_uuid: z.nullable(image) })),
  volume: versionedPayload(z.object({ uuid, host: text, request_id: text, volume_id: uuid })),
  delete: versionedPayload(z.object({ uuid, host: text, request_id: text })),
  rebuild: versionedPayload(z.object({ uuid, host: text, request_id: text, image_uuid: z.nullable(image) })),
};
const legacy = {
  create: z.object({
    instance_id: uuid,
    host: text,
    image_ref_url: text,
    image_meta: z.optional(z.nullable(z.object({ base_image_ref: text }))),
  }),
  volume: z.object({ instance_id: uuid, host: text, volume_id: uuid }),
  delete: z.object({ instance_id: uuid, host: text }),
};
/**
 * What is read of a message, and whose it is. `gone`: of the host that tells it, which the instance has left. `moved`: the same, if the
 * payload names another host, where it is now. `evacuated`: of the host in the payload, which it was on, if another one tells it.
 */
type Kind = 'create' | 'volume' | 'delete' | 'rebuild' | 'gone' | 'moved' | 'evacuated';

export function readVersioned(kind: Kind, n: Notification, hosts: HostFilter): Reading {
  const told = publisher(n.publisher_id, ':');
  const payloadHost = rawField(rawField(n.payload, 'nova_object.data'), 'host');
  const place = placeOf(kind, told.service === 'nova-api', told.host, payloadHost);
  return read(place, hosts, (host): Parsed<Happening> => {
    const about = (d: { uuid: string; request_id?: string | null | undefined }) => ({
      host,
      instance: d.uuid,
      ...requestId(n, d.request_id),
    });
    if (kind === 'create')
      return map(parse(versioned.create, n.payload, 'payload'), ({ 'nova_object.data': d }) => ({
        ...about(d),
        imageId: d.image_uuid ?? '',
      }));
    if (kind === 'rebuild')
      return map(parse(versioned.rebuild, n.payload, 'payload'), ({ 'nova_object.data': d }) => ({
        ...about(d),
        imageId: d.image_uuid ?? '',
        inPlace: d.host === host,
      }));
    if (kind === 'volume')
      return map(parse(versioned.volume, n.payload, 'payload'), ({ 'nova_object.data': d }) => ({
        ...about(d),
        volumeId: d.volume_id,
      }));
    return map(parse(versioned.delete, n.payload, 'payload'), ({ 'nova_object.data': d }) => ({
      ...about(d),
      ...atOf(n),
    }));
  });
}

export function readLegacy(kind: Kind, n: Notification, hosts: HostFilter): Reading {
  const told = publisher(n.publisher_id, '.');
  const place = placeOf(kind, false, told.host, rawField(n.payload, 'host'));
  return read(place, hosts, (host): Parsed<Happening> => {
    if (kind === 'create' || kind === 'rebuild') {
      const parsed = parse(legacy.create, n.payload, 'payload');
      if (!parsed.ok) return parsed;
      const p = parsed.value;
      const imageId = parse(
        image,
        p.image_meta?.base_image_ref ?? lastPart(p.image_ref_url ?? ''),
        'payload.image_meta',
      );
      return map(imageId, id => ({
        host,
        instance: p.instance_id,
        imageId: id,
        ...(kind === 'rebuild' && { inPlace: p.host === host }),
        ...requestId(n),
      }));
    }
    if (kind === 'volume') {
      return map(parse(legacy.volume, n.payload, 'payload'), p => ({
        host,
        instance: p.instance_id,
        volumeId: p.volume_id,
        ...requestId(n),
      }));
    }
    return map(parse(legacy.delete, n.payload, 'payload'), p => ({
      host,
      instance: p.instance_id,
      ...requestId(n),
      ...atOf(n),
    }));
  });
}

type Place = { readonly host: string } | { readonly nowhere: Extract<IgnoredReason, 'no-host' | 'still-here'> };

/**
 * The publisher is where it happens: the payload has null at create.start, and the host that died in an evacuation. Only a delete is
 * told by nova-api for a host that is down (or by no host at all); there the payload is right, in both forms.
 */
function placeOf(kind: Kind, byApi: boolean, publisherHost: string | undefined, payloadHost: unknown): Place {
  const inPayload = typeof payloadHost === 'string' && payloadHost !== '' ? payloadHost : undefined;
  const place = (host: string | undefined): Place => (host === undefined ? { nowhere: 'no-host' } : { host });
  // nova-api tells nothing of what has been done on a host.
  if (byApi && kind !== 'delete')
    return kind === 'create' || kind === 'volume' ? place(inPayload) : { nowhere: 'no-host' };
  switch (kind) {
    case 'delete':
      return place(inPayload ?? (byApi ? undefined : publisherHost));
    case 'moved':
    case 'evacuated':
      if (inPayload === undefined || publisherHost === undefined) return { nowhere: 'no-host' };
      if (inPayload === publisherHost) return { nowhere: 'still-here' };
      return { host: kind === 'moved' ? publisherHost : inPayload };
    default:
      return place(publisherHost);
  }
}

function read(place: Place, hosts: HostFilter, parsed: (host: string) => Parsed<Happening>): Reading {
  if (!('host' in place)) return { kind: 'ignored', reason: place.nowhere };
  if (!hosts.has(place.host)) return { kind: 'ignored', reason: 'other-host' };
  const result = parsed(place.host);
  return result.ok ? { kind: 'happening', happening: result.value } : { kind: 'invalid', reason: result.reason };
}

function requestId(n: Notification, own?: string | null): { requestId?: string } {
  const id = firstId(n._context_request_id, own, n.message_id, n._unique_id);
  return id === undefined ? {} : { requestId: id };
}

function atOf(n: Notification): { readonly at?: string } {
  const at = sentAt(n);
  return at === undefined ? {} : { at };
}

const map = <A, B>(parsed: Parsed<A>, f: (value: A) => B): Parsed<B> =>
  parsed.ok ? { ok: true, value: f(parsed.value) } : parsed;

const lastPart = (url: string) => url.slice(url.lastIndexOf('/') + 1);

/** One own field of something that was not checked yet. */
export function rawField(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return Object.getOwnPropertyDescriptor(value, key)?.value;
}
