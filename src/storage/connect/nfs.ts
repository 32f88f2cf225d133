/** Volumes that are files on an NFS share, raw or qcow2. */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Connection } from '../../engine/model.ts';
import type { ImageRef } from '../../engine/ports.ts';
import { isNodeErrno } from '../../kernel/errno.ts';
import { type ConnectEnv, type Connector, cannotConnect, textFact } from './connector.ts';
import type { Nbd } from './qemu-nbd.ts';
import { Shares } from './shares.ts';
import { within } from './wait.ts';

/** A server that is away makes whoever asks about a file wait for ever. */
const LOOK_MS = 20_000;

export function nfsConnector(env: ConnectEnv, nbd: Nbd): Connector {
  const shares = new Shares(env);
  const isQcow2 = (connection: Connection) => textFact(connection, 'format') === 'qcow2';

  return {
    async connect(connection, { signal }) {
      const directory = await shares.hold(shareOf(connection), connection.name, signal);
      try {
        const path = join(directory, textFact(connection, 'file'));
        if (!(await isFile(path, signal)))
          throw cannotConnect(connection, `there is no such file on the share ${textFact(connection, 'share')}`);
        if (!isQcow2(connection)) return { kind: 'file', path };
        return { kind: 'device', path: await nbd.connect(connection, { path, directory }, signal) };
      } catch (error) {
        await shares.letGo(shareOf(connection), connection.name);
        throw error;
      }
    },

    async find(connection, signal): Promise<ImageRef | undefined> {
      const directory = shares.where(shareOf(connection));
      if (directory === undefined) return undefined;
      const path = join(directory, textFact(connection, 'file'));
      if (isQcow2(connection)) {
        const device = nbd.find(path);
        return device === undefined ? undefined : { kind: 'device', path: device };
      }
      return (await isFile(path, signal)) ? { kind: 'file', path } : undefined;
    },

    async disconnect(connection, signal) {
      const share = shareOf(connection);
      const directory = shares.where(share);
      if (directory !== undefined && isQcow2(connection))
        await nbd.disconnect(connection, join(directory, textFact(connection, 'file')), signal);
      await shares.letGo(share, connection.name);
    },

    /** A file is as large as it is; qemu-nbd has to be told. */
    async rescan(connection, signal) {
      const directory = shares.where(shareOf(connection));
      if (directory === undefined || !isQcow2(connection)) return;
      await nbd.rescan(connection, join(directory, textFact(connection, 'file')), signal);
    },
  };
}

function shareOf(connection: Connection) {
  return {
    export: textFact(connection, 'share'),
    mountPoint: textFact(connection, 'mountPoint'),
    options: textFact(connection, 'options'),
  };
}

async function isFile(path: string, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    return (await within(LOOK_MS, signal, `look at ${path}`, lstat(path))).isFile();
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}
