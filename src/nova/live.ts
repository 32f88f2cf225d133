/**
 * Live migration, as far as containers have one: stopped here, let go of, mounted there with the map of that host, started there. Only
 * where the operator wants that (`live_migration: stop_and_move`), and only where nothing has to be copied meanwhile.
 */
import { ShiftvolError } from '../errors.ts';
import { makeMachine, refOf } from './instances.ts';
import { putAside, putBackAll, unmake } from './lifecycle.ts';
import type { NovaInstance } from './model.ts';
import type { Call, Nova } from './ports.ts';
import { mountRoot } from './roots.ts';
import { type Standstill, tellStandstill } from './standstill.ts';
import { attachAll, attachments, requireRootHere } from './volumes.ts';
import type { Args } from './wire.ts';

/** @throws SV_RUNTIME_UNSUPPORTED */
export async function checkDestination(
  nova: Nova,
  { instance, block_migration }: Args<'check_can_live_migrate_destination'>,
): Promise<null> {
  requireAllowed(nova, instance);
  if (block_migration)
    throw cannot(instance, 'block migration was asked for, nothing is copied', 'migrate without --block-migration');
  return null;
}

/** @throws SV_RUNTIME_UNSUPPORTED, SV_INSTANCE_NOT_FOUND */
export async function checkSource(nova: Nova, { instance }: Args<'check_can_live_migrate_source'>): Promise<null> {
  requireAllowed(nova, instance);
  const root = requireRootHere(nova, instance);
  const local = [root, ...attachments(nova, instance)].find(({ plan }) => plan.source.kind !== 'connection');
  if (local)
    throw cannot(
      instance,
      `what is at ${local.plan.target} is on the disk of "${nova.host}", volumes of Cinder are accepted`,
      'openstack server migrate, without --live, may do it',
    );
  return null;
}

/** On the destination: a container that waits for its root. */
export async function preLiveMigration(nova: Nova, args: Args<'pre_live_migration'>, call: Call): Promise<null> {
  await makeMachine(nova, args.instance, args.network_info, call);
  return null;
}

/** On the source: from here on it is down. A failure brings it back up here. */
export async function liveMigration(nova: Nova, { instance, dest }: Args<'live_migration'>, call: Call): Promise<void> {
  requireAllowed(nova, instance);
  const ref = refOf(instance);
  const had = attachments(nova, instance);
  await nova.notes.set(ref, { leaving: dest }, call.signal);
  const began = performance.now();
  const downSince = Date.now();
  try {
    await nova.machines.stop(ref, { timeoutMs: nova.config.stopTimeoutMs, force: false }, call.signal);
    const stopped = performance.now();
    await putAside(nova, instance, call);
    await nova.departures?.tell(dest, { instance: instance.uuid, source: nova.host, downSince });
    nova.log.info(`moves to "${dest}": it is down from here on`, {
      instance: instance.uuid,
      stop_ms: Math.round(stopped - began),
      let_go_ms: Math.round(performance.now() - stopped),
    });
  } catch (error) {
    await putBackAll(nova, instance, { had, wasRunning: true }, error);
    throw error;
  }
}

/** On the source, when Nova counts on the destination. Volumes are not here any more; nothing stays. */
export async function postLiveMigration(
  nova: Nova,
  { instance }: Args<'post_live_migration'>,
  call: Call,
): Promise<void> {
  await unmake(nova, instance, call);
}

/** On the destination: up again, on the volumes as Cinder exports them to this host. */
export async function postAtDestination(
  nova: Nova,
  { instance, block_device_info: devices, network_info }: Args<'post_live_migration_at_destination'>,
  call: Call,
): Promise<Standstill | undefined> {
  const began = performance.now();
  await makeMachine(nova, instance, network_info, call);
  if (devices.boot) await mountRoot(nova, instance, { kind: 'volume', volume: devices.boot }, call);
  await attachAll(nova, instance, devices.volumes, call);
  const mounted = performance.now();
  await nova.machines.start(refOf(instance), call.signal);
  const times = { mount_ms: Math.round(mounted - began), start_ms: Math.round(performance.now() - mounted) };
  const departure = nova.departures?.take(refOf(instance));
  if (departure) return await tellStandstill(nova, instance, departure, times, call);
  nova.log.info('moved here: it is up again', { instance: instance.uuid, ...times });
  return undefined;
}

/** A migration that failed brought it back up itself; where that was cut off, it is done here. */
export async function rollbackAtSource(
  nova: Nova,
  { instance }: Args<'rollback_live_migration_at_source'>,
  { signal }: Call,
): Promise<void> {
  const ref = refOf(instance);
  if ((await nova.notes.get(ref, signal))?.leaving === undefined) return;
  await nova.machines.start(ref, signal);
  await nova.notes.set(ref, {}, signal);
}

export async function rollbackAtDestination(
  nova: Nova,
  { instance }: Args<'rollback_live_migration_at_destination'>,
  call: Call,
): Promise<void> {
  await unmake(nova, instance, call);
}

function requireAllowed(nova: Nova, instance: NovaInstance): void {
  if (nova.config.liveMigration === 'stop_and_move') return;
  throw cannot(
    instance,
    'a running container cannot be moved',
    'openstack server migrate without --live; or set nova.live_migration to "stop_and_move", which stops it, moves it and starts it again',
  );
}

function cannot(instance: NovaInstance, what: string, remedy: string): ShiftvolError {
  return new ShiftvolError('SV_RUNTIME_UNSUPPORTED', `Cannot live-migrate "${instance.name}": ${what}`, { remedy });
}
