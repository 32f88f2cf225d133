/** Reads connection_info as Cinder gives it, nested (Nova's) or flat (the attachments API), into what is journaled and what is secret. */
import { z } from 'zod';
import type { Connection, Encryption } from '../../engine/model.ts';
import { Secrets } from '../../engine/secrets.ts';
import { readIscsi } from './info-iscsi.ts';
import { readNvmeof } from './info-nvmeof.ts';
import { parse, type Read, refuse } from './info-shape.ts';
import { readLocal, readNfs, readRbd } from './info-simple.ts';

export type ConnectionRequest = { readonly connection: Connection; readonly secrets: Secrets };
/** Cinder's encryption metadata, which Nova hands to attach_volume beside connection_info. */
const encryptionInfo = z.object({
  provider: z.string().nullish(),
  control_location: z.string().nullish(),
  cipher: z.string().max(100).nullish(),
  key_size: z.coerce.number().int().positive().nullish(),
  encryption_key_id: z.string().max(255).nullish(),
});

const common = z.object({
  driver_volume_type: z.string(),
  serial: z.string().min(1).max(255).nullish(),
  volume_id: z.string().min(1).max(255).nullish(),
  access_mode: z.enum(['ro', 'rw']).nullish(),
  encrypted: z.boolean().nullish(),
  multiattach: z.boolean().nullish(),
});

const READERS: Readonly<Record<string, (data: unknown, volumeId: string) => Read>> = {
  local: readLocal,
  nfs: readNfs,
  rbd: readRbd,
  iscsi: readIscsi,
  nvmeof: readNvmeof,
};

/**
 * `volumeId`: where connection_info itself has none. `encryption`: Cinder's, of an encrypted volume.
 * @throws SV_CONNECTION_INFO naming the field
 */
export function readConnection(
  connectionInfo: unknown,
  options: { readonly volumeId?: string; readonly encryption?: unknown } = {},
): ConnectionRequest {
  const data = flatten(connectionInfo);
  const info = parse(common, data);
  const volumeId = info.serial ?? info.volume_id ?? options.volumeId;
  if (volumeId === undefined) throw refuse('volume_id', 'it says no volume id, "serial" or "volume_id" is accepted');
  const reader = READERS[info.driver_volume_type];
  if (reader === undefined)
    throw refuse(
      'driver_volume_type',
      `it is of type "${info.driver_volume_type}", ${Object.keys(READERS).join(', ')} are accepted`,
    );
  if (info.multiattach === true && info.access_mode !== 'ro')
    throw refuse(
      'multiattach',
      'several may attach it, and a file system that is mounted on two hosts is destroyed: for reading only is accepted',
    );
  const { secrets = {}, ...read } = reader(data, volumeId);
  const encryption = readEncryption(info.encrypted === true, options.encryption);
  const connection = { ...read, volumeId, readOnly: info.access_mode === 'ro', ...(encryption && { encryption }) };
  return { connection, secrets: new Secrets(secrets) };
}

function readEncryption(encrypted: boolean, metadata: unknown): Encryption | undefined {
  const { provider, control_location, cipher, key_size, encryption_key_id } = parse(encryptionInfo, metadata ?? {});
  if (!encrypted && !provider) return undefined;
  // Its old names were Python classes: nova.volume.encryptors.luks.LuksEncryptor
  const named = (provider ?? 'luks')
    .split('.')
    .at(-1)
    ?.replace(/Encryptor$/, '')
    .toLowerCase();
  if (named !== 'luks' && named !== 'luks2')
    throw refuse('encryption.provider', `the volume is encrypted by "${provider}", luks and luks2 are accepted`);
  if (control_location === 'back-end') return undefined;
  return {
    provider: named,
    ...(encryption_key_id && { keyId: encryption_key_id }),
    ...(cipher && { cipher }),
    ...(key_size && { keySizeBits: key_size }),
  };
}

/** `data`'s keys beside those around it, as the attachments API has them. */
function flatten(connectionInfo: unknown): Record<string, unknown> {
  const outer = parse(z.record(z.string(), z.unknown()), connectionInfo);
  const { data, ...rest } = outer;
  return data === undefined || data === null ? rest : { ...rest, ...parse(z.record(z.string(), z.unknown()), data) };
}
