/** Which connector brings a volume, and what stands between the volume and what is mounted. */
import { open } from 'node:fs/promises';
import type { Connection, ConnectionType } from '../../engine/model.ts';
import type { ImageRef } from '../../engine/ports.ts';
import { KeyedQueue } from '../../engine/queue.ts';
import { Secrets } from '../../engine/secrets.ts';
import type { Connections } from '../../engine/volume-ports.ts';
import { type FileSystemToMake, isBlank, makeFileSystem } from './blank.ts';
import { type ConnectEnv, type Connector, cannotConnect } from './connector.ts';
import { iscsiConnector } from './iscsi.ts';
import { findPassphrase, type KeySource } from './keys.ts';
import { localConnector } from './local.ts';
import { Luks } from './luks.ts';
import { nfsConnector } from './nfs.ts';
import { nvmeofConnector } from './nvmeof.ts';
import { Nbd } from './qemu-nbd.ts';
import { rbdConnector } from './rbd.ts';
import { deviceSize } from './sysfs.ts';

export type ConnectionsOptions = Pick<ConnectEnv, 'runDir'> &
  Partial<ConnectEnv> & {
    /** Make one on a volume that is blank; null: never. */
    readonly makeFilesystem?: FileSystemToMake | null;
    /** Asked in this order for the key of an encrypted volume that came without one. */
    readonly keys?: readonly KeySource[];
  };

export function makeConnections(options: ConnectionsOptions): Connections {
  const { makeFilesystem = null, keys = [], ...given } = options;
  const env: ConnectEnv = { procRoot: '/proc', sysRoot: '/sys', multipath: false, localPaths: [], ...given };
  const connectors: Readonly<Record<ConnectionType, Connector>> = {
    local: localConnector(env),
    nfs: nfsConnector(env, new Nbd(env)),
    rbd: rbdConnector(env),
    iscsi: iscsiConnector(env),
    nvmeof: nvmeofConnector(env),
  };
  const luks = new Luks(env);
  /** One thing at a time for each volume: two instances may want it. */
  const queue = new KeyedQueue(Number.POSITIVE_INFINITY);

  const unlock = async (connection: Connection, image: ImageRef, secrets: Secrets, signal?: AbortSignal) => {
    const own: KeySource = async () => secrets.get('luksPassphrase');
    const passphrase = () => findPassphrase(connection, [own, ...keys], signal);
    const { device, fresh } = await luks.open(connection, image, {
      passphrase,
      format: makeFilesystem !== null,
      signal,
    });
    return { image: { kind: 'device', path: device } as const, fresh };
  };

  const find = async (connection: Connection, signal?: AbortSignal): Promise<ImageRef | undefined> => {
    const mapping = connection.encryption && luks.find(connection);
    return mapping === undefined
      ? await connectors[connection.type].find(connection, signal)
      : { kind: 'device', path: mapping };
  };

  return {
    isOwn: () => false,
    find,
    connect: (connection, { secrets = new Secrets(), asItIs = false, signal }) =>
      queue.run(connection.name, async () => {
        const volume = await connectors[connection.type].connect(connection, { secrets, signal });
        const { image, fresh } = connection.encryption
          ? await unlock(connection, volume, secrets, signal)
          : { image: volume, fresh: false };
        if (makeFilesystem === null || connection.readOnly || asItIs) return image;
        // Behind a new LUKS header everything looks like noise: the header itself says that nothing was ever there.
        if (fresh || (await isBlank(image.path, signal)))
          await makeFileSystem(image.path, makeFilesystem, { overwrite: fresh, signal });
        if (fresh) await luks.settle(volume, signal);
        return image;
      }),
    disconnect: (connection, { signal }) =>
      queue.run(connection.name, async () => {
        if (connection.encryption) await luks.close(connection, signal);
        await connectors[connection.type].disconnect(connection, signal);
      }),
    extend: (connection, signal) =>
      queue.run(connection.name, async () => {
        await connectors[connection.type].rescan(connection, signal);
        if (connection.encryption) await luks.resize(connection, signal);
        const image = await find(connection, signal);
        if (image === undefined) throw cannotConnect(connection, 'it is not on this host');
        return image.kind === 'file' ? await fileSize(image.path) : deviceSize(env.sysRoot, image.path);
      }),
  };
}

/** NFS keeps what it knows of a file for some seconds; opening it asks the server. */
async function fileSize(path: string): Promise<number> {
  await using file = await open(path, 'r');
  return (await file.stat()).size;
}
