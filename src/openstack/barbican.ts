/** Keys of encrypted volumes, from Barbican v1: where Cinder has them kept. */
import { readBytes } from './body.ts';
import { OpenstackError } from './openstack-error.ts';
import type { CloudSession } from './session.ts';

const MAX_KEY_BYTES = 4096;

export class Barbican {
  readonly #session: CloudSession;

  constructor(session: CloudSession) {
    this.#session = session;
  }

  /** The key's own bytes; undefined where Barbican has none of this id. @throws SV_OPENSTACK_REFUSED: it is not for this user */
  async key(id: string, signal: AbortSignal): Promise<Buffer | undefined> {
    const request = {
      method: 'GET',
      path: `/secrets/${encodeURIComponent(id)}/payload`,
      headers: { accept: 'application/octet-stream' },
      purpose: `get the key ${id} of an encrypted volume`,
    } as const;
    try {
      const { body } = await this.#session.open('key-manager', request, signal);
      return await readBytes(body, MAX_KEY_BYTES);
    } catch (error) {
      if (error instanceof OpenstackError && error.status === 404) return undefined;
      throw error;
    }
  }
}
