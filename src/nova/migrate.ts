/**
 * Resize and cold migration. The source's root stays until Nova confirms: what is noted with the container is where it goes, and a volume
 * that is the root is let go of, since the destination mounts it.
 */
import { ShiftvolError } from '../errors.ts';
import { makeMachine, refOf, requireFlavor, runtimeConfig } from './instances.ts';
import { putAside, putBackAll, takeBack, unmake } from './lifecycle.ts';
import type { NovaInstance, VolumeMapping } from './model.ts';
import type { Call, Nova } from './ports.ts';
import { stop } from './power.ts';
import { mountRoot } from './roots.ts';
import { type Standstill, tellStandstill } from './standstill.ts';
import { attachAll, attachments, requireRootHere } from './volumes.ts';
import { type Args, type DiskInfo, parseDiskInfo } from './wire.ts';

const GIB = 2 ** 30;

/**
 * On the source. Everything that can be refused is, before anything is stopped; and a root that is on this host's disk goes ahead first.
 * @throws SV_USAGE: the new disk is smaller; SV_RUNTIME_UNSUPPORTED: its root is on this host's own disk and it goes to another
 */
export async function migrateDiskAndPowerOff(
  nova: Nova,
  args: Args<'migrate_disk_and_power_off'>,
  call: Call,
): Promise<string> {
  const { instance, flavor, migration, dest } = args;
  const destination = migration.destination ?? dest;
  const ref = refOf(instance);
  const isVolume = requireRootHere(nova, instance).plan.source.kind !== 'template';
  if (!isVolume) refuseSmaller(instance, flavor.rootGb);
  if (!isVolume && destination !== nova.host && !nova.transfer?.sends)
    throw new ShiftvolError(
      'SV_RUNTIME_UNSUPPORTED',
      `Cannot move "${instance.name}" to host "${destination}": its root file system is on the disk of "${nova.host}"`,
      {
        remedy:
          'set migration.listen in plugin.yaml of this host; or boot it from a volume, or make an image of it (openstack server image create) and boot that',
      },
    );
  const wasRunning = (await nova.machines.power(ref, call.signal)) === 'running';
  const had = attachments(nova, instance);
  const sends = !isVolume && destination !== nova.host ? nova.transfer : undefined;
  try {
    if (wasRunning) await sends?.sendAhead(ref, destination, call.signal);
    await nova.notes.set(ref, { leaving: destination }, call.signal);
    const downSince = Date.now();
    await stop(nova, args, call);
    await putAside(nova, instance, call);
    const told = { v: 1, source: nova.host, root: await tellRoot(), ...(wasRunning && { downSince }) } as const;
    return JSON.stringify(told satisfies DiskInfo);
  } catch (error) {
    await sends?.end(ref, destination);
    await putBackAll(nova, instance, { had, wasRunning }, error);
    throw error;
  }

  async function tellRoot(): Promise<DiskInfo['root']> {
    if (isVolume) return { kind: 'volume' };
    if (!sends) return { kind: 'here' };
    return { kind: 'sent', transfer: await sends.send(ref, destination, call.signal) };
  }
}

/** On the destination, which may be the source. `instance.flavor` is the new one. Returns how long it was down, where it runs again. */
export async function finishMigration(
  nova: Nova,
  args: Args<'finish_migration'>,
  call: Call,
): Promise<Standstill | undefined> {
  const { instance, block_device_info: devices, network_info, disk_info, power_on } = args;
  const { root, source, downSince } = parseDiskInfo(disk_info);
  const ref = refOf(instance);
  const isNew = (await nova.machines.power(ref, call.signal)) === undefined;
  try {
    await makeMachine(nova, instance, network_info, call);
    await limit(nova, instance, call);
    const began = performance.now();
    if (root.kind === 'volume')
      await mountRoot(nova, instance, { kind: 'volume', volume: bootOf(instance, devices.boot) }, call);
    if (root.kind === 'sent') await receive(nova, instance, root.transfer, call);
    if (root.kind !== 'volume') await growTo(nova, instance, call);
    await attachAll(nova, instance, devices.volumes, call);
    const mounted = performance.now();
    if (power_on === false) return undefined;
    await nova.machines.start(ref, call.signal);
    if (downSince === undefined) return undefined;
    const times = { mount_ms: Math.round(mounted - began), start_ms: Math.round(performance.now() - mounted) };
    return await tellStandstill(nova, instance, { source, downSince }, times, call);
  } catch (error) {
    if (isNew && root.kind !== 'here') await takeBack(nova, instance, error);
    throw error;
  }
}

/** On the source. What went to another host goes from here for good. */
export async function confirmMigration(nova: Nova, { instance }: Args<'confirm_migration'>, call: Call): Promise<void> {
  const ref = refOf(instance);
  const note = await nova.notes.get(ref, call.signal);
  await nova.transfer?.end(ref);
  if (note?.leaving === nova.host) await nova.notes.set(ref, {}, call.signal);
  // Without a note nothing of it left, or this was confirmed already.
  else if (note?.leaving !== undefined) await unmake(nova, instance, call);
}

/** On the source: as it was, with the flavor that it had. */
export async function finishRevertMigration(
  nova: Nova,
  { instance, block_device_info: devices, power_on }: Args<'finish_revert_migration'>,
  call: Call,
): Promise<void> {
  const ref = refOf(instance);
  await nova.transfer?.end(ref);
  await limit(nova, instance, call);
  if (devices.boot) await mountRoot(nova, instance, { kind: 'volume', volume: devices.boot }, call);
  await attachAll(nova, instance, devices.volumes, call);
  if (power_on !== false) await nova.machines.start(ref, call.signal);
  await nova.notes.set(ref, {}, call.signal);
}

/** The flavor's limits, on a container that is there. */
async function limit(nova: Nova, instance: NovaInstance, { signal }: Call): Promise<void> {
  const flavor = requireFlavor(instance);
  const { vcpus, memoryMb } = flavor;
  await nova.machines.update(refOf(instance), { vcpus, memoryMb, config: runtimeConfig(flavor) }, signal);
}

async function growTo(nova: Nova, instance: NovaInstance, call: Call): Promise<void> {
  const { rootGb } = requireFlavor(instance);
  if (rootGb > 0) await nova.fileSystems.growRoot(refOf(instance), rootGb * GIB, call);
}

async function receive(nova: Nova, instance: NovaInstance, told: string, { signal }: Call): Promise<void> {
  if (!nova.transfer)
    throw new ShiftvolError(
      'SV_RUNTIME_UNSUPPORTED',
      `Cannot take over "${instance.name}": this host receives no root file systems`,
    );
  await nova.transfer.receive(refOf(instance), told, signal);
}

/** By flavors: the file system may have been made larger than its flavor, and then stays so. */
function refuseSmaller(instance: NovaInstance, rootGb: number): void {
  const had = instance.flavor?.rootGb ?? 0;
  if (rootGb >= had) return;
  throw new ShiftvolError(
    'SV_USAGE',
    `Cannot resize "${instance.name}": its root disk has ${had} GiB, the new flavor ${rootGb} GiB, as much or more is accepted`,
    { field: 'flavor.root_gb', remedy: 'choose a flavor with a disk that is not smaller' },
  );
}

function bootOf(instance: NovaInstance, boot: VolumeMapping | undefined): VolumeMapping {
  if (boot) return boot;
  throw new ShiftvolError(
    'SV_MESSAGE',
    `Cannot take over "${instance.name}": block_device_info has no volume with boot_index 0`,
    {
      field: 'block_device_info',
    },
  );
}
