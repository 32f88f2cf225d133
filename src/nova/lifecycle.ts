/** Instances come and go. */
import type { Attachment } from '../engine/model.ts';
import { isError, ShiftvolError } from '../errors.ts';
import type { ImageTemplates } from './images.ts';
import { makeMachine, refOf } from './instances.ts';
import type { NovaInstance } from './model.ts';
import type { Call, Nova } from './ports.ts';
import { chooseRoot, mountRoot } from './roots.ts';
import { attachAll, detachAll, putBack, rootFirst, rootOf } from './volumes.ts';
import type { Args } from './wire.ts';

/** For taking back what a call began, also when that was told to stop. */
const TAKE_BACK_TIMEOUT_MS = 120_000;

/**
 * Template, container, root, volumes, start. Done already is success, and what an earlier call left half way is gone on with.
 * A failure takes all of it back, unless the container was there before this call.
 */
export async function spawn(nova: Nova, templates: ImageTemplates, args: Args<'spawn'>, call: Call): Promise<void> {
  const { instance, image_meta, block_device_info: devices, network_info, power_on } = args;
  refuseWhatIsNot(args);
  const root = await chooseRoot(templates, instance, image_meta, devices.boot, call);
  const isNew = (await nova.machines.power(refOf(instance), call.signal)) === undefined;
  try {
    await makeMachine(nova, instance, network_info, call);
    await mountRoot(nova, instance, root, call);
    await attachAll(nova, instance, devices.volumes, call);
    if (power_on !== false) await nova.machines.start(refOf(instance), call.signal);
  } catch (error) {
    if (isNew) await takeBack(nova, instance, error);
    throw error;
  }
}

/**
 * Stops it, lets go of every volume, removes the root's snapshot, the container, and gives the ids back. Nothing there is success.
 * Not so with `destroy_disks` false, and in the middle of a resize on this one host that is taken back: then the root and the stopped
 * container stay.
 * @throws SV_BUSY: somebody on the host uses a file system of it
 */
export async function destroy(nova: Nova, args: Args<'destroy' | 'cleanup'>, call: Call): Promise<void> {
  const { instance, destroy_disks } = args;
  const hasDisk = rootOf(nova, instance)?.plan.source.kind === 'template';
  const keepsRoot = (destroy_disks === false && hasDisk) || (await isBackAndForth(nova, instance, call));
  if (keepsRoot) await putAside(nova, instance, call);
  else await unmake(nova, instance, call);
}

/** All of it goes, also a root snapshot. */
export async function unmake(nova: Nova, instance: NovaInstance, { signal }: Call): Promise<void> {
  const ref = refOf(instance);
  await stopNow(nova, instance, { signal });
  try {
    await nova.engine.execute({ action: 'destroy', instance: ref, lazy: false }, signal, () => false);
  } catch (error) {
    if (!isError(error, 'SV_ATTACHMENT_NOT_FOUND')) throw error;
  }
  await nova.machines.remove(ref, signal);
}

/** Stopped, and no volume of it is on this host any more. */
export async function putAside(nova: Nova, instance: NovaInstance, call: Call): Promise<void> {
  await stopNow(nova, instance, call);
  await detachAll(nova, instance, call);
}

/**
 * A resize within this host is being taken back: Nova has "the new one" destroyed, which is the old one. One that is deleted in that state
 * was confirmed before.
 */
async function isBackAndForth(nova: Nova, instance: NovaInstance, { signal }: Call): Promise<boolean> {
  if (instance.taskState !== 'resize_reverting') return false;
  return (await nova.notes.get(refOf(instance), signal))?.leaving === nova.host;
}

async function stopNow(nova: Nova, instance: NovaInstance, { signal }: Call): Promise<void> {
  try {
    await nova.machines.stop(refOf(instance), { timeoutMs: 0, force: true }, signal);
  } catch (error) {
    if (!isError(error, 'SV_INSTANCE_NOT_FOUND')) throw error;
  }
}

/** What a call began that then failed with `error`. @throws SuppressedError: this fails too */
export async function takeBack(nova: Nova, instance: NovaInstance, error: unknown): Promise<void> {
  try {
    await unmake(nova, instance, { signal: AbortSignal.timeout(TAKE_BACK_TIMEOUT_MS) });
  } catch (undoError) {
    throw new SuppressedError(undoError, error, 'it failed, and so did taking it back');
  }
}

/**
 * A move that failed with `error`: it is put back as it was, from what the journal had. Without secrets: Nova does not send them here.
 * @throws SuppressedError: this fails too
 */
export async function putBackAll(
  nova: Nova,
  instance: NovaInstance,
  { had, wasRunning }: { readonly had: readonly Attachment[]; readonly wasRunning: boolean },
  error: unknown,
): Promise<void> {
  const signal = AbortSignal.timeout(TAKE_BACK_TIMEOUT_MS);
  try {
    for (const attachment of rootFirst(had)) await putBack(nova, instance, attachment, { signal });
    if (wasRunning) await nova.machines.start(refOf(instance), signal);
    await nova.notes.set(refOf(instance), {}, signal);
  } catch (undoError) {
    throw new SuppressedError(undoError, error, 'it did not move, and it could not be put back');
  }
}

/** @throws SV_USAGE: something that a container of ours would not get, which is better known before it boots */
function refuseWhatIsNot({ instance, block_device_info, injected_files, accel_info }: Args<'spawn'>): void {
  const [scratch] = block_device_info.scratch;
  const refused = [
    { what: scratch, field: 'block_device_info' },
    { what: (injected_files ?? []).length > 0 ? 'injected files' : undefined, field: 'injected_files' },
    { what: (accel_info ?? []).length > 0 ? 'an accelerator' : undefined, field: 'accel_info' },
  ].find(({ what }) => what !== undefined);
  if (refused)
    throw new ShiftvolError(
      'SV_USAGE',
      `Cannot boot "${instance.name}": it asks for ${refused.what}, which containers here do not get`,
      {
        field: refused.field,
        remedy: 'use volumes, and user data for cloud-init',
      },
    );
}
