/**
 * The arguments that Nova's driver sends, by the contract in deploy/nova/README.md. Loaded with the first call: the schema library is a
 * good part of the agent's memory. Unknown fields are left out, since every release of Nova adds some.
 */
import * as z from 'zod';
import { ShiftvolError } from '../errors.ts';
import type {
  BlockDevices,
  Flavor,
  NetworkPort,
  NovaImage,
  NovaInstance,
  NovaMigration,
  VolumeMapping,
} from './model.ts';

const text = z.string().max(65_536);
const name = z.string().min(1).max(255);
const uuid = z
  .string()
  .regex(/^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/, 'a uuid is accepted')
  .transform(s => s.toLowerCase());
const count = z.int().nonnegative();
const bool = z
  .boolean()
  .nullish()
  .transform(b => b ?? false);
/** Nova's null is our absent. */
const optional = <T extends z.ZodType>(type: T) => type.nullish().transform(value => value ?? undefined);
const texts = z
  .record(z.string().max(255), text)
  .nullish()
  .transform(record => record ?? {});

const flavor = z.object({ name, vcpus: count, memory_mb: count, root_gb: count, extra_specs: texts }).transform(
  ({ memory_mb, root_gb, extra_specs, ...rest }): Flavor => ({
    ...rest,
    memoryMb: memory_mb,
    rootGb: root_gb,
    extraSpecs: extra_specs,
  }),
);

const instance = z
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
const named = z.object({ uuid, name: optional(name), task_state: optional(text) }).transform(
  (i): NovaInstance => ({
    uuid: i.uuid,
    name: i.name ?? i.uuid,
    displayName: i.name ?? i.uuid,
    metadata: {},
    ...(i.task_state && { taskState: i.task_state }),
  }),
);

const image = z
  .object({ id: optional(uuid), min_disk: optional(count) })
  .nullish()
  .transform((i): NovaImage => ({ minDisk: i?.min_disk ?? 0, ...(i?.id && { id: i.id }) }));

/** The connectors read it; here only whose volume it is. `serial` is always there, `data.volume_id` for some drivers only. */
const connectionInfo = z
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

const blockDevices = z
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
const network = z
  .array(vif)
  .max(64)
  .nullish()
  .transform(ports => ports ?? []);

const migration = z
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

const seconds = z.number().nonnegative().nullish();
const about = { instance: named };
const whole = { instance };
const withVolumes = { ...whole, block_device_info: blockDevices };
const withNetwork = { ...withVolumes, network_info: network };
const disks = { ...about, destroy_disks: z.boolean().nullish() };

/** By method; keyword names are ComputeDriver's. */
const SCHEMAS = {
  init_host: z.object({ host: optional(text) }),
  get_info: z.object(about),
  list_instances: z.object({}),
  list_instance_uuids: z.object({}),
  instance_on_disk: z.object(about),
  get_available_resource: z.object({ nodename: optional(text) }),
  get_available_nodes: z.object({}),
  get_host_ip_addr: z.object({}),
  get_host_uptime: z.object({}),
  get_volume_connector: z.object({}),
  spawn: z.object({
    ...withNetwork,
    image_meta: image,
    injected_files: z.array(z.unknown()).nullish(),
    power_on: z.boolean().nullish(),
    accel_info: z.array(z.unknown()).nullish(),
  }),
  destroy: z.object(disks),
  cleanup: z.object(disks),
  reboot: z.object({ ...withNetwork, reboot_type: z.enum(['SOFT', 'HARD']) }),
  power_off: z.object({ ...about, timeout: seconds, retry_interval: seconds }),
  power_on: z.object(withNetwork),
  pause: z.object(about),
  unpause: z.object(about),
  suspend: z.object(about),
  resume: z.object(withNetwork),
  resume_state_on_host_boot: z.object(withNetwork),
  attach_volume: z.object({
    ...whole,
    connection_info: connectionInfo,
    mountpoint: optional(text),
    encryption: z.looseObject({}).nullish(),
  }),
  detach_volume: z.object({ ...about, connection_info: connectionInfo, mountpoint: optional(text) }),
  extend_volume: z.object({ ...about, connection_info: connectionInfo, requested_size: z.int().positive() }),
  snapshot: z.object({ ...about, image_id: uuid }),
  quiesce: z.object(about),
  unquiesce: z.object(about),
  get_console_output: z.object(about),
  get_diagnostics: z.object(about),
  migrate_disk_and_power_off: z.object({
    ...withVolumes,
    dest: text,
    flavor,
    timeout: seconds,
    retry_interval: seconds,
    migration,
  }),
  finish_migration: z.object({
    ...withNetwork,
    migration,
    disk_info: text,
    image_meta: image,
    resize_instance: bool,
    power_on: z.boolean().nullish(),
  }),
  confirm_migration: z.object({ ...about, migration }),
  finish_revert_migration: z.object({ ...withVolumes, migration, power_on: z.boolean().nullish() }),
  check_can_live_migrate_destination: z.object({ ...about, block_migration: bool }),
  check_can_live_migrate_source: z.object({ ...about, dest_check_data: z.unknown() }),
  cleanup_live_migration_destination_check: z.object({ dest_check_data: z.unknown() }),
  pre_live_migration: z.object(withNetwork),
  live_migration: z.object({ ...about, dest: text }),
  post_live_migration: z.object(about),
  post_live_migration_at_source: z.object(about),
  post_live_migration_at_destination: z.object(withNetwork),
  rollback_live_migration_at_source: z.object(about),
  rollback_live_migration_at_destination: z.object(disks),
} as const;

export type MethodName = keyof typeof SCHEMAS;
export type Args<M extends MethodName> = z.output<(typeof SCHEMAS)[M]>;

/** What finish_migration gets of migrate_disk_and_power_off, from another host. */
const diskInfo = z.object({
  v: z.literal(1),
  /** Name of the host that sent it. */
  source: name,
  /** `here`: source and destination are one host; `volume`: Cinder exports it to the destination; `sent`: it comes from the source's disk. */
  root: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('here') }),
    z.object({ kind: z.literal('volume') }),
    z.object({ kind: z.literal('sent'), transfer: text }),
  ]),
});
export type DiskInfo = z.output<typeof diskInfo>;

/** @throws SV_MESSAGE naming the field; no value is in the text */
export function parseArgs<M extends MethodName>(method: M, args: unknown): Args<M> {
  // Indexing by a generic key loses which schema it is.
  const parsed = SCHEMAS[method].safeParse(args);
  if (parsed.success) return parsed.data as Args<M>;
  throw misfit(`the call of ${method}`, parsed.error.issues);
}

/** @throws SV_MESSAGE */
export function parseDiskInfo(json: string): DiskInfo {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new ShiftvolError(
      'SV_MESSAGE',
      'Cannot take disk_info: it is not JSON, the text of the source host is accepted',
      {
        field: 'disk_info',
        cause,
      },
    );
  }
  const parsed = diskInfo.safeParse(value);
  if (parsed.success) return parsed.data;
  throw misfit('disk_info', parsed.error.issues);
}

function misfit(what: string, [issue]: readonly z.core.$ZodIssue[]): ShiftvolError {
  const field = issue?.path.map(String).join('.') ?? '';
  return new ShiftvolError(
    'SV_MESSAGE',
    `Cannot take ${what}: ${field === '' ? '' : `"${field}": `}${issue?.message ?? 'not valid'}`,
    {
      field,
    },
  );
}
