/** Volumes of instances that are there, and images made of their root file systems. */
import { refOf } from './instances.ts';
import type { Call, Nova } from './ports.ts';
import { attach, detach, volumeHere } from './volumes.ts';
import type { Args } from './wire.ts';

export async function attachVolume(nova: Nova, args: Args<'attach_volume'>, call: Call): Promise<void> {
  const { instance, connection_info, encryption } = args;
  await attach(nova, instance, { ...connection_info, ...(hasKeys(encryption) ? { encryption } : {}) }, call);
}

export async function detachVolume(nova: Nova, args: Args<'detach_volume'>, call: Call): Promise<void> {
  await detach(nova, args.instance, args.connection_info.volumeId, call);
}

export async function extendVolume(nova: Nova, args: Args<'extend_volume'>, call: Call): Promise<void> {
  const { instance, connection_info, requested_size } = args;
  const volumeId = volumeHere(nova, instance, connection_info.volumeId);
  await nova.fileSystems.extendVolume(refOf(instance), volumeId, requested_size, call);
}

/** What Cinder calls a migration or another type of a volume that is attached; and what a user may ask for. */
export async function swapVolume(nova: Nova, args: Args<'swap_volume'>, { signal }: Call): Promise<void> {
  const { instance, old_connection_info: old, new_connection_info: wanted, resize_to } = args;
  const { connection, secrets } = await nova.connectors.read(wanted.connectionInfo);
  const volumeId = volumeHere(nova, instance, old.volumeId);
  const grows = (resize_to ?? 0) > 0;
  await nova.engine.swapVolume({ instance: refOf(instance), volumeId, connection, secrets, grows }, signal);
}

/** The instance goes on while the copy is uploaded; it stands still for as long as it takes to make one. */
export async function snapshot(nova: Nova, { instance, image_id }: Args<'snapshot'>, { signal }: Call): Promise<void> {
  await using image = await nova.fileSystems.openRootImage(refOf(instance), signal);
  await nova.images.upload(image_id, image, signal);
}

export async function quiesce(nova: Nova, { instance }: Args<'quiesce'>, { signal }: Call): Promise<void> {
  await nova.fileSystems.freeze(refOf(instance), signal);
}

export async function unquiesce(nova: Nova, { instance }: Args<'unquiesce'>, { signal }: Call): Promise<void> {
  await nova.fileSystems.thaw(refOf(instance), signal);
}

/** Nova gives {} for a volume that is not encrypted. */
function hasKeys(value: object | null | undefined): value is object {
  return Object.keys(value ?? {}).length > 0;
}
