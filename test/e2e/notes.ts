/** What Nova and Cinder send, in their real shapes: their samples with our ids, and a secret wherever theirs have one. */
import { readFileSync } from 'node:fs';
import type { Note } from '../rig/oslo/peers.ts';

const SAMPLES = new URL('../fixtures/notifications/', import.meta.url);
/** What no log, no result and no journal may show. */
export const SECRET = 'Gr0ssesGeheimnis';

export type About = {
  readonly instance: string;
  readonly request: string;
  readonly volume?: string;
  /** Of `instance-create-*`. */
  readonly image?: string;
  readonly host?: string;
};

/** Versioned, `instance-volume_attach-end` for example. At create.start nothing but publisher_id names the host, as in real clouds. */
export function versioned(sample: string, { instance, request, volume, image, host = 'node1' }: About): Note {
  const note = read(`nova/${sample}`);
  Object.assign(
    note.payload['nova_object.data'],
    { uuid: instance, request_id: request, host: sample === 'instance-create-start' ? null : host },
    volume && { volume_id: volume },
    image && { image_uuid: image },
  );
  return {
    event_type: note.event_type,
    priority: note.priority,
    publisher_id: `nova-compute:${host}`,
    payload: note.payload,
    exchange: 'nova',
    topic: 'versioned_notifications',
    context: secretContext({}, { request_id: request }),
  };
}

/** `compute.instance.*`, `volume-attach` for example, as captured from a real Nova. */
export function legacy(sample: string, { instance, request, volume, host = 'node1' }: About): Note {
  const note = read(`legacy/${sample}`);
  Object.assign(note.payload, { instance_id: instance }, volume && { volume_id: volume });
  return {
    ...note,
    publisher_id: `compute.${host}`,
    context: secretContext(note.context, { request_id: request, global_request_id: null }),
  };
}

/** Cinder's `volume.*`: a request of its own that names Nova's as the global one; the password of the storage in connection_info. */
export function cinder(sample: string, { instance, request, volume = '', host = 'node1' }: About): Note {
  const note = read(`cinder/${sample}`);
  const [attachment] = note.payload.volume_attachment;
  Object.assign(note.payload, { volume_id: volume });
  Object.assign(attachment, {
    instance_uuid: instance,
    attached_host: host,
    volume_id: volume,
    connection_info: JSON.stringify({ driver_volume_type: 'iscsi', auth_method: 'CHAP', auth_password: SECRET }),
    connector: JSON.stringify({ host, initiator: 'iqn.x', secret: SECRET }),
  });
  return {
    ...note,
    context: secretContext(note.context, { request_id: `${request}-cinder`, global_request_id: request }),
  };
}

function secretContext(context: object, more: object): object {
  return { ...context, auth_token: SECRET, service_catalog: [{ type: 'volumev3', token: SECRET }], ...more };
}

function read(sample: string) {
  return JSON.parse(readFileSync(new URL(`${sample}.json`, SAMPLES), 'utf8'));
}
