/** Where the key of an encrypted volume comes from, if it did not come with the request: after a reboot nothing did. */
import { join } from 'node:path';
import type { Connection } from '../../engine/model.ts';
import { ShiftvolError } from '../../errors.ts';
import { readIfThere } from '../../kernel/read-if-there.ts';

/** The passphrase of the LUKS header. Undefined: this source does not have it, and the next one is asked. */
export type KeySource = (connection: Connection, signal?: AbortSignal) => Promise<string | undefined>;

const MAX_KEY_CHARACTERS = 8192;

/** A directory of files that only root reads, each named by the key's id or by the volume's, each with a passphrase in it. */
export function keysInDirectory(directory: string): KeySource {
  return async connection => {
    for (const name of [connection.encryption?.keyId, connection.volumeId])
      if (name !== undefined && /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) {
        const text = await readIfThere(join(directory, name));
        if (text !== undefined) return text.replace(/\r?\n$/, '');
      }
    return undefined;
  };
}

/** As Nova makes a passphrase of a key manager's secret: its bytes in hexadecimal. */
export function passphraseOf(key: Buffer): string {
  return key.toString('hex');
}

/** @throws SV_CONNECTION: nobody has it */
export async function findPassphrase(
  connection: Connection,
  sources: readonly KeySource[],
  signal: AbortSignal | undefined,
): Promise<string> {
  for (const source of sources) {
    const found = await source(connection, signal);
    if (found !== undefined && found !== '' && found.length <= MAX_KEY_CHARACTERS) return found;
  }
  const id = connection.encryption?.keyId;
  throw new ShiftvolError(
    'SV_CONNECTION',
    `Cannot open the encrypted volume "${connection.name}": its key${id === undefined ? '' : ` ${id}`} is neither in volumes.keys_dir nor at the key manager`,
    { remedy: `set volumes.keys_dir and put the passphrase into a file named ${id ?? connection.volumeId} there` },
  );
}
