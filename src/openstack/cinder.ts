/** Volumes and attachments of Cinder v3. */
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { ShiftvolError } from '../errors.ts';
import {
  attachmentShape,
  type ConnectionInfo,
  VOLUME_ID,
  type Volume,
  type VolumeAttachment,
  volumeShape,
} from './cinder-volume.ts';
import { OpenstackError } from './openstack-error.ts';
import type { CloudRequest, CloudSession } from './session.ts';
import { readAnswer } from './wire.ts';

export type { ConnectionInfo, Volume, VolumeAttachment } from './cinder-volume.ts';

/** What this host is to storage: `{ host, ip, initiator, multipath, os_type, platform, ... }`. */
export type Connector = Readonly<Record<string, unknown>>;
export type NewAttachment = {
  readonly volumeId: string;
  /** Of Nova. Without it the attachment is the host's own, and Cinder does not ask Nova before it lets go of it. */
  readonly instanceUuid?: string;
  /** Default: none yet, the volume is only reserved. */
  readonly connector?: Connector;
  readonly mode?: 'ro' | 'rw';
};
export type WaitOptions = { readonly timeoutMs?: number };

const ATTACHMENTS = '3.27';
const COMPLETE = '3.44';
const ATTACH_MODE = '3.54';
const EXTEND_IN_USE = '3.42';
const WAIT_TIMEOUT_MS = 300_000;
const POLL_MS = { first: 200, longest: 2000 } as const;

export class Cinder {
  readonly #session: CloudSession;

  constructor(session: CloudSession) {
    this.#session = session;
  }

  /** By id, else by name. @throws SV_OPENSTACK_NOT_FOUND; SV_USAGE: several have this name */
  async volume(idOrName: string, signal: AbortSignal): Promise<Volume> {
    const purpose = `find the volume ${JSON.stringify(idOrName)}`;
    if (VOLUME_ID.test(idOrName)) {
      const found = await this.#orGone(this.#volume(idOrName, purpose, signal));
      if (found) return found;
    }
    const query = { name: idOrName, limit: '20' };
    const { body } = await this.#ask({ method: 'GET', path: '/volumes/detail', query, purpose }, signal);
    const { volumes } = readAnswer(z.looseObject({ volumes: z.array(volumeShape) }), body, purpose);
    const [volume, ...others] = volumes;
    if (volume === undefined)
      throw new OpenstackError('SV_OPENSTACK_NOT_FOUND', `Cannot ${purpose}: the project has none`, {
        status: 404,
        field: 'volume',
      });
    if (others.length === 0) return volume;
    throw new ShiftvolError(
      'SV_USAGE',
      `Cannot tell which volume ${JSON.stringify(idOrName)} is: ${volumes.map(v => v.id).join(', ')} have this name`,
      { field: 'volume', remedy: 'give the id' },
    );
  }

  /** How an encrypted volume is encrypted: Cinder's own words, without the key. */
  async encryption(volumeId: string, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
    const purpose = `find how the volume ${volumeId} is encrypted`;
    const path = `/volumes/${encodeURIComponent(volumeId)}/encryption`;
    const { body } = await this.#ask({ method: 'GET', path, purpose }, signal);
    return readAnswer(z.record(z.string(), z.unknown()), body, purpose);
  }

  /**
   * Reserves the volume; with a connector it is exported to this host at once.
   * Not repeated where the answer is lost: look for it with `attachments`.
   * @throws SV_OPENSTACK_REFUSED, SV_OPENSTACK_CONFLICT: in use, or in a state that does not permit it
   */
  async createAttachment(wanted: NewAttachment, signal: AbortSignal): Promise<VolumeAttachment> {
    const { volumeId, instanceUuid, connector, mode } = wanted;
    const purpose = `attach the volume ${volumeId}`;
    const attachment = {
      volume_uuid: volumeId,
      ...(instanceUuid !== undefined && { instance_uuid: instanceUuid }),
      ...(connector !== undefined && { connector }),
      ...(mode !== undefined && { mode }),
    };
    const microversion = mode === undefined ? ATTACHMENTS : ATTACH_MODE;
    const request = { method: 'POST', path: '/attachments', json: { attachment }, microversion, purpose } as const;
    return attachmentOf(await this.#ask(request, signal), purpose);
  }

  /** Exports the volume to the host of the connector. What comes back holds credentials: neither log nor keep it. */
  async updateAttachment(id: string, connector: Connector, signal: AbortSignal): Promise<ConnectionInfo> {
    const purpose = `export the volume of the attachment ${id} to this host`;
    const answer = await this.#ask(
      {
        method: 'PUT',
        path: `/attachments/${encodeURIComponent(id)}`,
        json: { attachment: { connector } },
        microversion: ATTACHMENTS,
        // A driver that was cut off in the middle may not take the same again.
        repeatable: false,
        purpose,
      },
      signal,
    );
    const { connectionInfo } = attachmentOf(answer, purpose);
    if (connectionInfo) return connectionInfo;
    throw new OpenstackError('SV_OPENSTACK', `Cannot ${purpose}: Cinder gives no connection_info`, answer);
  }

  async attachment(id: string, signal: AbortSignal): Promise<VolumeAttachment> {
    const purpose = `find the attachment ${id}`;
    const path = `/attachments/${encodeURIComponent(id)}`;
    return attachmentOf(await this.#ask({ method: 'GET', path, microversion: ATTACHMENTS, purpose }, signal), purpose);
  }

  /** All attachments of a volume, without their connection_info. */
  async attachments(volumeId: string, signal: AbortSignal): Promise<readonly VolumeAttachment[]> {
    const purpose = `list the attachments of the volume ${volumeId}`;
    const query = { volume_id: volumeId };
    const request = { method: 'GET', path: '/attachments', query, microversion: ATTACHMENTS, purpose } as const;
    const { body } = await this.#ask(request, signal);
    return readAnswer(z.looseObject({ attachments: z.array(attachmentShape) }), body, purpose).attachments;
  }

  /** The volume is in use from now on. Again is success. */
  async completeAttachment(id: string, signal: AbortSignal): Promise<void> {
    await this.#ask(
      {
        method: 'POST',
        path: `/attachments/${encodeURIComponent(id)}/action`,
        json: { 'os-complete': null },
        microversion: COMPLETE,
        repeatable: true,
        purpose: `complete the attachment ${id}`,
      },
      signal,
    );
  }

  /**
   * The host has let go of the volume. "Not there" is success.
   * @throws SV_OPENSTACK_CONFLICT: Nova uses it, and only services may end that
   */
  async deleteAttachment(id: string, signal: AbortSignal): Promise<void> {
    const path = `/attachments/${encodeURIComponent(id)}`;
    const purpose = `delete the attachment ${id}`;
    try {
      await this.#orGone(this.#ask({ method: 'DELETE', path, microversion: ATTACHMENTS, purpose }, signal));
    } catch (error) {
      if (!(error instanceof OpenstackError && error.status === 409)) throw error;
      throw new OpenstackError('SV_OPENSTACK_CONFLICT', `Cannot ${purpose}: an instance of Nova uses it`, {
        status: 409,
        requestId: error.requestId,
        field: 'attachment',
        remedy:
          'detach it through Nova ("openstack server remove volume"); a service may, with a service token ("openstack: service_cloud:")',
        cause: error,
      });
    }
  }

  /** Also of an attached volume, where the driver can. Waits until it is done. @throws SV_OPENSTACK: the driver could not */
  async extend(volumeId: string, newSizeGib: number, signal: AbortSignal, options: WaitOptions = {}): Promise<Volume> {
    const purpose = `extend the volume ${volumeId} to ${newSizeGib} GiB`;
    await this.#ask(
      {
        method: 'POST',
        path: `/volumes/${encodeURIComponent(volumeId)}/action`,
        json: { 'os-extend': { new_size: newSizeGib } },
        microversion: EXTEND_IN_USE,
        purpose,
      },
      signal,
    );
    const isDone = (v: Volume): boolean => v.sizeGib >= newSizeGib && v.status !== 'extending';
    return await poll(purpose, () => this.#volume(volumeId, purpose, signal), isDone, signal, options);
  }

  async #volume(id: string, purpose: string, signal: AbortSignal): Promise<Volume> {
    const { body } = await this.#ask({ method: 'GET', path: `/volumes/${encodeURIComponent(id)}`, purpose }, signal);
    return readAnswer(z.looseObject({ volume: volumeShape }), body, purpose).volume;
  }

  async #orGone<T>(asked: Promise<T>): Promise<T | undefined> {
    try {
      return await asked;
    } catch (error) {
      if (error instanceof OpenstackError && error.status === 404) return undefined;
      throw error;
    }
  }

  #ask(request: CloudRequest, signal: AbortSignal) {
    return this.#session.request('volumev3', request, signal);
  }
}

function attachmentOf({ body }: { readonly body: unknown }, purpose: string): VolumeAttachment {
  return readAnswer(z.looseObject({ attachment: attachmentShape }), body, purpose).attachment;
}

/** Asks again and again, less often with time. A status that begins with "error" ends it, unless that is what is waited for. */
async function poll<T extends { readonly status: string }>(
  purpose: string,
  look: () => Promise<T>,
  isDone: (found: T) => boolean,
  signal: AbortSignal,
  { timeoutMs = WAIT_TIMEOUT_MS }: WaitOptions,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (let delay: number = POLL_MS.first; ; delay = Math.min(POLL_MS.longest, delay * 1.5)) {
    const found = await look();
    if (isDone(found)) return found;
    if (found.status.startsWith('error'))
      throw new ShiftvolError('SV_OPENSTACK', `Cannot ${purpose}: it is ${found.status}`, {
        remedy: 'the log of cinder-volume says why',
      });
    if (performance.now() > deadline)
      throw new ShiftvolError('SV_TIMEOUT', `Cannot ${purpose}: it is ${found.status} after ${timeoutMs} ms`);
    await sleep(delay, undefined, { signal });
  }
}
