/** Volumes and attachments as Cinder v3 describes them. */
import { z } from 'zod';

export const VOLUME_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const id = z.string().regex(VOLUME_ID);
const metadata = z.record(z.string(), z.string()).nullish();

export const volumeShape = z
  .looseObject({
    id,
    name: z.string().nullish(),
    status: z.string(),
    size: z.int().positive(),
    multiattach: z.boolean().nullish(),
    encrypted: z.boolean().nullish(),
    bootable: z.union([z.boolean(), z.string()]).nullish(),
    volume_type: z.string().nullish(),
    metadata,
    volume_image_metadata: metadata,
    attachments: z
      .array(
        z.looseObject({
          attachment_id: z.string().nullish(),
          server_id: z.string().nullish(),
          host_name: z.string().nullish(),
        }),
      )
      .nullish(),
  })
  .transform(v => ({
    id: v.id.toLowerCase(),
    name: v.name ?? undefined,
    status: v.status,
    sizeGib: v.size,
    multiattach: v.multiattach ?? false,
    encrypted: v.encrypted ?? false,
    bootable: v.bootable === true || v.bootable === 'true',
    volumeType: v.volume_type ?? undefined,
    metadata: new Map(Object.entries(v.metadata ?? {})),
    imageMetadata: new Map(Object.entries(v.volume_image_metadata ?? {})),
    attachments: (v.attachments ?? []).map(a => ({
      id: a.attachment_id ?? undefined,
      instanceUuid: a.server_id ?? undefined,
      /** Told to administrators alone. */
      host: a.host_name ?? undefined,
    })),
  }));
export type Volume = Readonly<z.output<typeof volumeShape>>;

export const attachmentShape = z
  .looseObject({
    id,
    status: z.string(),
    volume_id: id,
    instance: z.string().nullish(),
    attach_mode: z.string().nullish(),
    connection_info: z.record(z.string(), z.unknown()).nullish(),
  })
  .transform(a => ({
    id: a.id.toLowerCase(),
    status: a.status,
    volumeId: a.volume_id.toLowerCase(),
    instanceUuid: a.instance ?? undefined,
    // Cinder writes the word where it has none.
    mode: a.attach_mode === 'null' ? undefined : (a.attach_mode ?? undefined),
    /** Undefined until a connector was given. It holds credentials: neither log nor keep it. */
    connectionInfo: connectionInfoOf(a.connection_info ?? {}, a.volume_id.toLowerCase()),
  }));
export type VolumeAttachment = Readonly<z.output<typeof attachmentShape>>;

/** In the form in which Nova hands it to its drivers. */
export type ConnectionInfo = {
  readonly driver_volume_type: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** The volume's id. */
  readonly serial: string;
};

/** The attachments API tells it flat; drivers and connectors know it with `data`. */
function connectionInfoOf(flat: Readonly<Record<string, unknown>>, volumeId: string): ConnectionInfo | undefined {
  const { driver_volume_type: type, ...data } = flat;
  return typeof type === 'string' ? { driver_volume_type: type, data, serial: volumeId } : undefined;
}
