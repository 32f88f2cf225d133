/** Which function does which method. */
import { KeyedQueue } from '../engine/queue.ts';
import { getAvailableResource, getHostIp, getHostUptime, listInstances, listInstanceUuids } from './host.ts';
import { ImageTemplates } from './images.ts';
import { destroy, spawn } from './lifecycle.ts';
import {
  checkDestination,
  checkSource,
  liveMigration,
  postAtDestination,
  postLiveMigration,
  preLiveMigration,
  rollbackAtDestination,
  rollbackAtSource,
} from './live.ts';
import { confirmMigration, finishMigration, finishRevertMigration, migrateDiskAndPowerOff } from './migrate.ts';
import type { Call, Nova } from './ports.ts';
import {
  freeze,
  getConsoleOutput,
  getDiagnostics,
  getInfo,
  isHere,
  powerOff,
  powerOn,
  reboot,
  resume,
  unfreeze,
} from './power.ts';
import { underRequest } from './requests.ts';
import { attachVolume, detachVolume, extendVolume, quiesce, snapshot, swapVolume, unquiesce } from './storage.ts';
import type { SupportedMethod } from './support.ts';
import { type Args, type MethodName, parseArgs } from './wire.ts';

type Work<M extends MethodName> = (nova: Nova, args: Args<M>, call: Call) => Promise<unknown>;
/** `looks` is done at once; of those that change an instance one is done after the other. */
type Method<M extends MethodName> = { readonly looks: boolean; readonly work: Work<M> };
const looks = <M extends MethodName>(work: Work<M>): Method<M> => ({ looks: true, work });
const changes = <M extends MethodName>(work: Work<M>): Method<M> => ({ looks: false, work });
const nothing = async () => undefined;

export type Methods = { call(method: SupportedMethod, args: unknown, call: Call): Promise<unknown> };

export function makeMethods(nova: Nova): Methods {
  const templates = new ImageTemplates(nova.images);
  const queue = new KeyedQueue(Number.POSITIVE_INFINITY);
  const table: { readonly [M in SupportedMethod]: Method<M> } = {
    init_host: looks(async () => ({ version: nova.version })),
    get_info: looks(getInfo),
    list_instances: looks((_, __, call) => listInstances(nova, call)),
    list_instance_uuids: looks((_, __, call) => listInstanceUuids(nova, call)),
    instance_on_disk: looks(isHere),
    get_available_resource: looks(getAvailableResource),
    get_available_nodes: looks(async () => [nova.host]),
    get_host_ip_addr: looks((_, __, call) => getHostIp(nova, call)),
    get_host_uptime: looks(() => getHostUptime(nova)),
    get_volume_connector: looks((_, __, call) => nova.connectors.properties(call.signal)),
    get_console_output: looks(getConsoleOutput),
    get_diagnostics: looks(getDiagnostics),
    spawn: changes((_, args, call) => spawn(nova, templates, args, call)),
    destroy: changes(destroy),
    cleanup: changes(destroy),
    reboot: changes(reboot),
    power_on: changes(powerOn),
    power_off: changes(powerOff),
    pause: changes(freeze),
    unpause: changes(unfreeze),
    suspend: changes(freeze),
    resume: changes(resume),
    resume_state_on_host_boot: changes(powerOn),
    attach_volume: changes(attachVolume),
    detach_volume: changes(detachVolume),
    extend_volume: changes(extendVolume),
    swap_volume: changes(swapVolume),
    // The engine has it wait for what is under way; the upload, which may take long, holds up nothing.
    snapshot: looks(snapshot),
    quiesce: changes(quiesce),
    unquiesce: changes(unquiesce),
    migrate_disk_and_power_off: changes(migrateDiskAndPowerOff),
    finish_migration: changes(finishMigration),
    confirm_migration: changes(confirmMigration),
    finish_revert_migration: changes(finishRevertMigration),
    check_can_live_migrate_destination: looks(checkDestination),
    check_can_live_migrate_source: looks(checkSource),
    cleanup_live_migration_destination_check: looks(nothing),
    pre_live_migration: changes(preLiveMigration),
    live_migration: changes(liveMigration),
    post_live_migration: changes(postLiveMigration),
    // It has left when this is called, and the network belongs to Neutron.
    post_live_migration_at_source: looks(nothing),
    post_live_migration_at_destination: changes(postAtDestination),
    rollback_live_migration_at_source: changes(rollbackAtSource),
    rollback_live_migration_at_destination: changes(rollbackAtDestination),
  };
  const run = async <M extends SupportedMethod>(method: M, given: unknown, call: Call): Promise<unknown> => {
    const { looks: onlyLooks, work }: Method<M> = table[method];
    const args = parseArgs(method, given);
    const told = underRequest(nova, call);
    const key = 'instance' in args ? args.instance.uuid : undefined;
    return onlyLooks || key === undefined
      ? await work(told, args, call)
      : await queue.run(key, () => work(told, args, call));
  };
  return { call: run };
}
