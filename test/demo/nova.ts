/** What Nova would send: its own documentation samples, with the ids of this demo. */
import { readFileSync } from 'node:fs';
import type { Note } from '../rig/oslo/peers.ts';

const SAMPLES = new URL('../fixtures/notifications/nova/', import.meta.url);

export type Ids = {
  readonly instance: string;
  readonly volume: string;
  readonly host: string;
  readonly name: string;
};

/** `instance-volume_attach-end`, from nova-compute on `ids.host`, as a new request. */
export function novaNote(sample: string, ids: Ids, requestId: string): Note {
  const note = JSON.parse(readFileSync(new URL(`${sample}.json`, SAMPLES), 'utf8'));
  const data = note.payload['nova_object.data'];
  Object.assign(data, {
    uuid: ids.instance,
    host: ids.host,
    node: ids.host,
    display_name: ids.name,
    host_name: ids.name,
    request_id: requestId,
    ...('volume_id' in data ? { volume_id: ids.volume } : {}),
  });
  for (const device of data.block_devices ?? []) device['nova_object.data'].volume_id = ids.volume;
  return {
    event_type: note.event_type,
    priority: note.priority,
    publisher_id: `nova-compute:${ids.host}`,
    payload: note.payload,
    exchange: 'nova',
    topic: 'versioned_notifications',
    context: { request_id: requestId },
  };
}
