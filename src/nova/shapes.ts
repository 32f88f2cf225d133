/** Nova's objects as its driver sends them, and what we make of them. Unknown fields are left out, since every release of Nova adds some. */
import * as z from 'zod';
import type {
  BlockDevices,
  Flavor,
  NetworkPort,
  NovaImage,
  NovaInstance,
  NovaMigration,
  VolumeMapping,
} from './model.ts';

export const text = z.string().max(65_536);
export const name = z.string().min(1).max(255);
export const uuid = z
  .string()
  .regex(/^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/, 'a uuid is accepted')
  .transform(s => s.toLowerCase());
export const count = z.int().nonnegative();
export const bool = z
  .boolean()
  .nullish()
  .transform(b => b ?? false);
/** Nova's null is our absent. */
export const optional = <T extends z.ZodType>(type: T) => type.nullish().transform(value => value ?? undefined);
const texts = z
  .record(z.string().max(255), text)
  .nullish()
  .transform(record => record ?? {});

export const flavor = z.object({ name, vcpus: count, memory_mb: count, root_gb: count, extra_specs: texts }).transform(
  ({ memory_mb, root_gb, extra_specs, ...rest }): Flavor => ({
    ...rest,
    memoryMb: memory_mb,
    rootGb: root_gb,
    extraSpecs: extra_specs,
  }),
);

export const instance = z
  .object({
    uuid,
    name,
    display_name: optional(text),
    hostname: optional(text),
    project_id: optional(text),
    metadata: texts,
    flavor: optional(flavor),
    user_data: optional(z.base64().max(1 << 20)),
    task_state: optional(text),
  })
  .transform(
    (i): NovaInstance => ({
      uuid: i.uuid,
      name: i.name,
      displayName: i.display_name ?? i.name,
      metadata: i.metadata,
      ...(i.hostname && { hostname: i.hostname }),
      ...(i.project_id && { projectId: i.project_id }),
      ...(i.flavor && { flavor: i.flavor }),
      ...(i.user_data && { userData: Buffer.from(i.user_data, 'base64').toString('utf8') }),
      ...(i.task_state && { taskState: i.task_state }),
    }),
  );

/** Where only which one it is matters: what else Nova may have of it, or not have, stands in the way of nothing. */
export const named = z.object({ uuid, name: optional(name), task_state: optional(text) }).transform(
  (i): NovaInstance => ({
    uuid: i.uuid,
    name: i.name ?? i.uuid,
    displayName: i.name ?? i.uuid,
    metadata: {},
    ...(i.task_state && { taskState: i.task_state }),
  }),
);

export const image = z
  .object({ id: optional(uuid), min_disk: optional(count) })
  .nullish()
  .transform((i): NovaImage => ({ minDisk: i?.min_disk ?? 0, ...(i?.id && { id: i.id }) }));

/** The connectors read it; here only whose volume it is. `serial` is always there, `data.volume_id` for some drivers only. */
export const connectionInfo = z
  .looseObject({ serial: optional(uuid), volume_id: optional(uuid) })
  .transform((info, context) => {
    const volumeId = info.serial ?? info.volume_id;
    if (volumeId !== undefined) return { volumeId, connectionInfo: info as unknown };
    context.addIssue({ code: 'custom', path: ['serial'], message: 'the uuid of the volume is required' });
    return z.NEVER;
  });

/** One that Cinder has not exported yet, or not any more, has no connection_info. */
const mapping = z
  .object({
    connection_info: optional(connectionInfo),
    mount_device: optional(text),
    boot_index: z.int().nullish(),
  })
  .transform(
    m => m.connection_info && { ...m.connection_info, device: m.mount_device ?? '', isBoot: m.boot_index === 0 },
  );

export const blockDevices = z
  .object({
    block_device_mapping: z.array(mapping).max(1024).nullish(),
    ephemerals: z.array(z.unknown()).max(1024).nullish(),
    swap: z.looseObject({ swap_size: count.nullish() }).nullish(),
  })
  .nullish()
  .transform((info): BlockDevices => {
    const all = (info?.block_device_mapping ?? []).filter(m => m !== undefined);
    const plain = ({ isBoot: _, ...volume }: (typeof all)[number]): VolumeMapping => volume;
    const boot = all.find(m => m.isBoot);
    return {
      ...(boot && { boot: plain(boot) }),
      volumes: all.filter(m => m !== boot).map(plain),
      scratch: [
        ...((info?.ephemerals ?? []).length > 0 ? ['an ephemeral disk'] : []),
        ...((info?.swap?.swap_size ?? 0) > 0 ? ['a swap disk'] : []),
      ],
    };
  });

const vif = z
  .object({
    address: z.string().max(64),
    type: optional(text),
    devname: optional(z.string().max(64)),
    network: optional(
      z.object({ bridge: optional(z.string().max(64)), meta: optional(z.object({ mtu: optional(count) })) }),
    ),
  })
  .transform(
    (v): NetworkPort => ({
      mac: v.address,
      type: v.type ?? 'unbound',
      ...(v.network?.bridge && { bridge: v.network.bridge }),
      ...(v.devname && { hostName: v.devname }),
      ...(v.network?.meta?.mtu && { mtu: v.network.meta.mtu }),
    }),
  );
export const network = z
  .array(vif)
  .max(64)
  .nullish()
  .transform(ports => ports ?? []);

export const migration = z
  .object({
    uuid: optional(text),
    migration_type: optional(text),
    source_compute: optional(text),
    dest_compute: optional(text),
  })
  .nullish()
  .transform(
    (m): NovaMigration => ({
      ...(m?.uuid && { uuid: m.uuid }),
      ...(m?.migration_type && { type: m.migration_type }),
      ...(m?.source_compute && { source: m.source_compute }),
      ...(m?.dest_compute && { destination: m.dest_compute }),
    }),
  );
