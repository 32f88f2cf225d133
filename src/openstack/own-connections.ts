/** Connections of which this host itself holds the attachment in Cinder: it ends with them. */
import type { Connection } from '../engine/model.ts';
import type { ImageRef } from '../engine/ports.ts';
import type { Secrets } from '../engine/secrets.ts';
import type { Connections } from '../engine/volume-ports.ts';
import { asError, explain, ShiftvolError } from '../errors.ts';
import type { Log } from '../log/log.ts';
import type { Cinder, ConnectionInfo } from './cinder.ts';
import { OpenstackError } from './openstack-error.ts';

/** Fact of a connection: the id of our attachment. Those that Nova made have none, and are ended by Nova. */
const OWN = 'cinderAttachment';

/** For Cinder to tell them again. */
const SECRETS_MS = 30_000;

export function asOwn(connection: Connection, attachmentId: string): Connection {
  return { ...connection, facts: { ...connection.facts, [OWN]: attachmentId } };
}

export function ownAttachment({ facts }: Connection): string | undefined {
  const id = facts[OWN];
  return typeof id === 'string' ? id : undefined;
}

export type OwnConnectionsDeps = {
  readonly connections: Connections;
  readonly cinder: () => Promise<Cinder>;
  readonly read: (info: ConnectionInfo) => Promise<{ readonly secrets: Secrets }>;
  readonly log?: Log | undefined;
};

export function ownConnections({ connections, cinder, read, log }: OwnConnectionsDeps): Connections {
  return {
    ...connections,
    isOwn: connection => ownAttachment(connection) !== undefined,
    find: (connection, signal) => connections.find(connection, signal),
    extend: (connection, signal) => connections.extend(connection, signal),

    /** `secrets` come with the request that made the attachment; later they are asked for again, since they are kept nowhere. */
    connect: async (connection, { secrets, asItIs, signal = AbortSignal.any([]) }): Promise<ImageRef> => {
      const id = ownAttachment(connection);
      if (id === undefined)
        return await connections.connect(connection, {
          signal,
          ...(secrets && { secrets }),
          ...(asItIs !== undefined && { asItIs }),
        });
      if (secrets === undefined) {
        const again = await secretsAgain(id, signal);
        return await connections.connect(connection, { signal, ...(again && { secrets: again }) });
      }
      const image = await connections.connect(connection, { signal, secrets });
      await (await cinder()).completeAttachment(id, signal);
      return image;
    },

    /** Cinder is told last: it may take the export away at once. */
    disconnect: async (connection, { signal = AbortSignal.any([]) }) => {
      await connections.disconnect(connection, { signal });
      const id = ownAttachment(connection);
      if (id !== undefined) await (await cinder()).deleteAttachment(id, signal);
    },
  };

  /** After a power cut Cinder may be down as long as we were; many volumes need no secret. */
  async function secretsAgain(id: string, signal: AbortSignal): Promise<Secrets | undefined> {
    try {
      const deadline = AbortSignal.any([AbortSignal.timeout(SECRETS_MS), signal]);
      const { connectionInfo } = await (await cinder()).attachment(id, deadline);
      return connectionInfo && (await read(connectionInfo)).secrets;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof OpenstackError && error.status === 404) throw takenAway(id, error);
      if (asError(error).code === 'SV_INTERNAL') throw error;
      log?.warn(`Cinder does not tell how attachment ${id} is reached; trying without: ${explain(error)}`);
      return undefined;
    }
  }
}

/** Mounted all the same it would be on two hosts at once. */
function takenAway(id: string, cause: OpenstackError): ShiftvolError {
  return new ShiftvolError(
    'SV_OPENSTACK_NOT_FOUND',
    `Cannot connect the volume again: Cinder has no attachment ${id} any more`,
    {
      field: 'volume',
      remedy: 'somebody deleted it, and the volume may be elsewhere by now: detach it here',
      cause,
    },
  );
}
