/**
 * The arguments that Nova's driver sends, by the contract in deploy/nova/README.md. Loaded with the first call: the schema library is a
 * good part of the agent's memory.
 */
import * as z from 'zod';
import { ShiftvolError } from '../errors.ts';
import {
  blockDevices,
  bool,
  connectionInfo,
  flavor,
  image,
  instance,
  migration,
  name,
  named,
  network,
  optional,
  text,
  uuid,
} from './shapes.ts';

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
  swap_volume: z.object({
    ...about,
    old_connection_info: connectionInfo,
    new_connection_info: connectionInfo,
    mountpoint: optional(text),
    resize_to: z.int().nonnegative().nullish(),
  }),
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
  /** When it began to stop, in milliseconds since 1970; absent where it did not run, or an older agent sent it. */
  downSince: z.int().positive().optional(),
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
