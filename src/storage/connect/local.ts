import { stat } from 'node:fs/promises';
import type { Connection } from '../../engine/model.ts';
import type { ImageRef } from '../../engine/ports.ts';
import { ShiftvolError } from '../../errors.ts';
import { isNodeErrno } from '../../kernel/errno.ts';
import { type Connector, textFact } from './connector.ts';

/** A volume that is on this host anyway: a logical volume, a file. Connecting it is looking whether it is there. */
export function localConnector(): Connector {
  return {
    async connect(connection) {
      const image = await find(connection);
      if (image) return image;
      throw new ShiftvolError(
        'SV_VOLUME_NOT_FOUND',
        `Cannot connect volume "${connection.name}": it is not on this host`,
      );
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
