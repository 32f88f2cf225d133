import { realpath, stat } from 'node:fs/promises';
import type { Connection } from '../../engine/model.ts';
import type { ImageRef } from '../../engine/ports.ts';
import { ShiftvolError } from '../../errors.ts';
import { isNodeErrno } from '../../kernel/errno.ts';
import { type ConnectEnv, type Connector, textFact } from './connector.ts';

/**
 * A volume that is on this host anyway: a logical volume, a file. Connecting it is looking whether it is there. Whoever may send a
 * connection_info names a path of this host here, so that only those count which the operator has listed.
 */
export function localConnector({ localPaths }: Pick<ConnectEnv, 'localPaths'>): Connector {
  return {
    async connect(connection) {
      const path = textFact(connection, 'path');
      if (!localPaths.some(listed => isWithin(path, listed))) throw notListed(connection, path);
      const image = await find(connection);
      if (!image)
        throw new ShiftvolError(
          'SV_VOLUME_NOT_FOUND',
          `Cannot connect volume "${connection.name}": it is not on this host`,
        );
      await requireNoWayOut(connection, path, localPaths);
      return image;
    },
    find,
    disconnect: async () => {},
    rescan: async () => {},
  };
}

async function find(connection: Connection): Promise<ImageRef | undefined> {
  const path = textFact(connection, 'path');
  try {
    const found = await stat(path);
    return found.isBlockDevice() ? { kind: 'device', path } : { kind: 'file', path };
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR', 'ENXIO')) return undefined;
    throw error;
  }
}

/** `/srv/volumes`: all below it. `/dev/mapper/cinder-*`: names that begin so. */
function isWithin(path: string, listed: string): boolean {
  if (listed.endsWith('*')) return path.startsWith(listed.slice(0, -1)) && !path.slice(listed.length - 1).includes('/');
  return path.startsWith(`${listed}/`);
}

/** Links below /dev are made by udev; elsewhere whoever may write to a directory may make one. @throws SV_CONNECTION_INFO */
async function requireNoWayOut(connection: Connection, path: string, localPaths: readonly string[]): Promise<void> {
  const real = await realpath(path);
  if (path.startsWith('/dev/') && real.startsWith('/dev/')) return;
  for (const listed of localPaths) if (isWithin(real, await realListed(listed))) return;
  throw notListed(connection, real);
}

async function realListed(listed: string): Promise<string> {
  const slash = listed.lastIndexOf('/');
  const [directory, name] = listed.endsWith('*') ? [listed.slice(0, slash), listed.slice(slash)] : [listed, ''];
  try {
    return (await realpath(directory)) + name;
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR')) return listed;
    throw error;
  }
}

function notListed(connection: Connection, path: string): ShiftvolError {
  return new ShiftvolError(
    'SV_CONNECTION_INFO',
    `Cannot connect volume "${connection.volumeId}": ${JSON.stringify(path)} is not a place for volumes on this host`,
    { field: 'device_path', remedy: 'list its directory in volumes.local_paths, if services may name what is there' },
  );
}
