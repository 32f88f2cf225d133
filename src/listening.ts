/** What every server of ours that listens for TCP has in common. */
import type { Server } from 'node:net';
import { ShiftvolError } from './errors.ts';

/** `[::1]:80` has its address in brackets. */
export function splitAddress(address: string): readonly [host: string, port: number] {
  const colon = address.lastIndexOf(':');
  return [address.slice(0, colon).replace(/^\[|\]$/g, ''), Number(address.slice(colon + 1))];
}

/**
 * Resolves when it listens, with where that is: port 0 is any that is free. `field`: the key of plugin.yaml that has the address.
 * @throws SV_CONFIG: it cannot be listened there
 */
export async function listenOn(
  server: Server,
  address: string,
  field: string,
): Promise<{ readonly address: string; readonly port: number }> {
  const [host, port] = splitAddress(address);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(port, host, resolve);
  try {
    await promise;
  } catch (cause) {
    throw new ShiftvolError('SV_CONFIG', `Cannot listen on "${address}"`, { field, cause });
  }
  const bound = server.address();
  return typeof bound === 'object' && bound !== null ? bound : { address: host, port };
}
