/** Nova's two forms of the same events: `instance.*` with nova_object payloads, and the older `compute.instance.*`. */
import * as z from 'zod';
import type { Happening, HostFilter, Reading } from './happening.ts';
import { firstId, type Notification, type Parsed, parse, publisher } from './notification.ts';

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
type Kind = keyof typeof versioned;

export function readVersioned(kind: Kind, n: Notification, hosts: HostFilter): Reading {
  const told = publisher(n.publisher_id, ':');
  const data = rawField(n.payload, 'nova_object.data');
  const host = hostOf(kind, told.service === 'nova-api', told.host, rawField(data, 'host'));
  return read(host, hosts, (): Parsed<Happening> => {
    const requestOf = (own: string | null | undefined) => requestId(n, own);
    if (kind === 'create') {
      return map(parse(versioned.create, n.payload, 'payload'), ({ 'nova_object.data': d }) => ({
        host,
        instance: d.uuid,
        imageId: d.image_uuid ?? '',
        ...requestOf(d.request_id),
      }));
    }
    if (kind === 'volume') {
      return map(parse(versioned.volume, n.payload, 'payload'), ({ 'nova_object.data': d }) => ({
        host,
        instance: d.uuid,
        volumeId: d.volume_id,
        ...requestOf(d.request_id),
      }));
    }
    return map(parse(versioned.delete, n.payload, 'payload'), ({ 'nova_object.data': d }) => ({
      host,
      instance: d.uuid,
      ...requestOf(d.request_id),
    }));
  });
}

export function readLegacy(kind: Kind, n: Notification, hosts: HostFilter): Reading {
  const told = publisher(n.publisher_id, '.');
  const host = hostOf(kind, false, told.host, rawField(n.payload, 'host'));
  return read(host, hosts, (): Parsed<Happening> => {
    if (kind === 'create') {
      const parsed = parse(legacy.create, n.payload, 'payload');
      if (!parsed.ok) return parsed;
      const p = parsed.value;
      const imageId = parse(
        image,
        p.image_meta?.base_image_ref ?? lastPart(p.image_ref_url ?? ''),
        'payload.image_meta',
      );
      return map(imageId, id => ({ host, instance: p.instance_id, imageId: id, ...requestId(n) }));
    }
    if (kind === 'volume') {
      return map(parse(legacy.volume, n.payload, 'payload'), p => ({
        host,
        instance: p.instance_id,
        volumeId: p.volume_id,
        ...requestId(n),
      }));
    }
    return map(parse(legacy.delete, n.payload, 'payload'), p => ({ host, instance: p.instance_id, ...requestId(n) }));
  });
}

/**
 * The publisher is where it happens: the payload has null at create.start, and the host that died in an evacuation. Only a delete is
 * told by nova-api for a host that is down (or by no host at all); there the payload is right, in both forms.
 */
function hostOf(kind: Kind, byApi: boolean, publisherHost: string | undefined, payloadHost: unknown): string | null {
  const inPayload = typeof payloadHost === 'string' && payloadHost !== '' ? payloadHost : null;
  if (kind === 'delete') return inPayload ?? (byApi ? null : (publisherHost ?? null));
  return byApi ? inPayload : (publisherHost ?? null);
}

function read(host: string | null, hosts: HostFilter, parsed: () => Parsed<Happening>): Reading {
  if (host === null) return { kind: 'ignored', reason: 'no-host' };
  if (!hosts.has(host)) return { kind: 'ignored', reason: 'other-host' };
  const result = parsed();
  return result.ok ? { kind: 'happening', happening: result.value } : { kind: 'invalid', reason: result.reason };
}

function requestId(n: Notification, own?: string | null): { requestId?: string } {
  const id = firstId(n._context_request_id, own, n.message_id, n._unique_id);
  return id === undefined ? {} : { requestId: id };
}

const map = <A, B>(parsed: Parsed<A>, f: (value: A) => B): Parsed<B> =>
  parsed.ok ? { ok: true, value: f(parsed.value) } : parsed;

const lastPart = (url: string) => url.slice(url.lastIndexOf('/') + 1);

/** One own field of something that was not checked yet. */
export function rawField(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return Object.getOwnPropertyDescriptor(value, key)?.value;
}
