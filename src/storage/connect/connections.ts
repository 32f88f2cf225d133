/** Which connector brings a volume, and what stands between the volume and what is mounted. */
import { stat } from 'node:fs/promises';
import type { Connection, ConnectionType } from '../../engine/model.ts';
import type { Connections } from '../../engine/ports.ts';
import { KeyedQueue } from '../../engine/queue.ts';
import { Secrets } from '../../engine/secrets.ts';
import { type ConnectEnv, type Connector, cannotConnect } from './connector.ts';
import { localConnector } from './local.ts';
import { nfsConnector } from './nfs.ts';
import { Nbd } from './qemu-nbd.ts';
import { deviceSize } from './sysfs.ts';

export type ConnectionsOptions = Pick<ConnectEnv, 'runDir'> & Partial<ConnectEnv>;

export function makeConnections(options: ConnectionsOptions): Connections {
  const env: ConnectEnv = { procRoot: '/proc', sysRoot: '/sys', multipath: false, ...options };
  const nbd = new Nbd(env);
  const connectors: Partial<Record<ConnectionType, Connector>> = {
    local: localConnector(),
    nfs: nfsConnector(env, nbd),
  };
  const queue = new KeyedQueue(Number.POSITIVE_INFINITY);
  const connectorOf = (connection: Connection): Connector => {
    const connector = connectors[connection.type];
    if (connector === undefined) throw cannotConnect(connection, `type "${connection.type}" is not supported yet`);
    return connector;
  };

  return {
    connect: (connection, { secrets = new Secrets(), signal }) =>
      queue.run(connection.name, () => connectorOf(connection).connect(connection, { secrets, signal })),
    find: (connection, signal) => connectorOf(connection).find(connection, signal),
    disconnect: (connection, { signal }) =>
      queue.run(connection.name, () => connectorOf(connection).disconnect(connection, signal)),
    extend: (connection, signal) =>
      queue.run(connection.name, async () => {
        const connector = connectorOf(connection);
        await connector.rescan(connection, signal);
        const image = await connector.find(connection, signal);
        if (image === undefined) throw cannotConnect(connection, 'it is not on this host');
        return image.kind === 'file' ? (await stat(image.path)).size : deviceSize(env.sysRoot, image.path);
      }),
  };
}
