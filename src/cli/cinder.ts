/** What the engine has of Cinder on this host: volumes by name, attachments of our own, keys of encrypted volumes. */
import { join } from 'node:path';
import type { Config } from '../config/schema.ts';
import type { Connections, VolumeService } from '../engine/volume-ports.ts';
import type { Log } from '../log/log.ts';
import { ownConnections } from '../openstack/own-connections.ts';
import { OwnNotes } from '../openstack/own-notes.ts';
import { OwnVolumes } from '../openstack/own-volumes.ts';
import { type KeySource, passphraseOf } from '../storage/connect/keys.ts';
import { connectorsOf } from './connectors.ts';
import type { LazyCloud } from './lazy-cloud.ts';

export type CinderParts = { readonly connections: Connections; readonly volumes: VolumeService };

/** Asks nobody anything yet. */
export function cinderParts(config: Config, inner: Connections, cloud: LazyCloud, log?: Log): CinderParts {
  const cinder = () => cloud.cinder();
  const { read, properties: connector } = connectorsOf(config);
  return {
    connections: ownConnections({ connections: inner, cinder, read, log }),
    volumes: new OwnVolumes({ notes: new OwnNotes(join(config.stateDir, 'cinder')), cinder, connector, read, log }),
  };
}

/** The key manager of the cloud, where there is one. */
export function keysOf(cloud: LazyCloud): KeySource {
  return async ({ encryption }, signal = AbortSignal.any([])) => {
    if (encryption?.keyId === undefined || !(await cloud.isConfigured())) return undefined;
    const { Barbican } = await import('../openstack/barbican.ts');
    const key = await new Barbican(await cloud.session()).key(encryption.keyId, signal);
    return key && passphraseOf(key);
  };
}
