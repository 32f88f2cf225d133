/** What is in the recordings. */
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import type { Cinder, Volume } from '../../../src/openstack/cinder.ts';
import type { CloudSession } from '../../../src/openstack/session.ts';

/** An image that waits for its data, as Nova makes one. */
export async function makeImage(session: CloudSession, json: object, signal: AbortSignal): Promise<string> {
  const { body } = await session.request('image', { method: 'POST', path: '/images', json }, signal);
  return z.looseObject({ id: z.string() }).parse(body).id;
}

export async function removeImage(session: CloudSession, id: string, signal: AbortSignal): Promise<void> {
  await session.request('image', { method: 'DELETE', path: `/images/${id}` }, signal);
}

/** Looks again and again. @throws the signal's reason */
export async function volumeIs(cinder: Cinder, id: string, status: string, signal: AbortSignal): Promise<Volume> {
  for (;;) {
    const volume = await cinder.volume(id, signal);
    if (volume.status === status) return volume;
    if (volume.status.startsWith('error')) throw new Error(`volume ${id} is ${volume.status}`);
    await sleep(200, undefined, { signal });
  }
}

/** Some bytes of which no two kilobytes are alike. */
export function demoBody(): Buffer {
  return Buffer.from(Array.from({ length: 1000 }, (_, i) => `line ${i}\n`).join(''));
}

export const CONNECTOR = {
  host: 'node1',
  ip: '192.0.2.10',
  initiator: 'iqn.1993-08.org.debian:01:node1',
  multipath: false,
  os_type: 'linux',
  platform: 'x86_64',
  do_local_attach: false,
} as const;
