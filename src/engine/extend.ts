/** Makes what is attached larger, while it is in use: first the image or device, then the file system on it. */
import { isError, ShiftvolError } from '../errors.ts';
import type { EngineDeps } from './deps.ts';
import type { Attachment, ExtendCommand, InstanceKey, Plan, StepTiming, Task } from './model.ts';
import type { Also, ImageRef } from './ports.ts';
import { attachmentNotFound, readOnlyGrowth } from './refuse.ts';
import { mountAgain } from './remount.ts';
import { resolve } from './resolve.ts';
import { timed, unwind } from './saga.ts';
import type { Steps } from './steps.ts';
import { requireTarget } from './target.ts';

export type Extended = { readonly changed: boolean; readonly timings: readonly StepTiming[] };
type Attached = Attachment & { readonly status: { readonly state: 'attached' } };

/** @throws SV_ATTACHMENT_NOT_FOUND: nothing is attached there; SV_USAGE: read-only, or no size where there has to be one */
export function findToExtend(deps: EngineDeps, command: ExtendCommand, key: InstanceKey): Attached {
  const { volumeId } = command;
  const target =
    command.target === undefined || command.target === '/' ? command.target : requireTarget(command.target);
  const wanted = ({ plan }: Attachment) => (target === undefined ? plan.volumeId === volumeId : plan.target === target);
  const found = deps.journal.list(key).find(wanted);
  if (!found || !isAttached(found)) throw attachmentNotFound(`"${command.instance.ref}:${target ?? volumeId}"`);
  const { readOnly, source } = found.plan;
  if (readOnly) throw readOnlyGrowth();
  if (command.sizeBytes === undefined && (source.kind === 'template' || source.kind === 'file'))
    throw new ShiftvolError('SV_USAGE', `Cannot extend ${placeOf(found.plan)}: it is an image, and no size is given`, {
      field: 'sizeBytes',
      remedy: 'give the size that it is to have',
    });
  return found;
}

/**
 * The task is noted before, and ended after. `closing` gives what is to become true with its end.
 * @throws SV_USAGE: it would become smaller; SV_GROW, SV_HOST, SV_NO_SPACE, SV_CONNECTION. The image may be larger then, which harms nobody
 */
export async function extend(
  deps: EngineDeps,
  steps: Steps,
  attachment: Attached,
  sizeBytes: number | undefined,
  opening: () => Also,
  closing: (end: Extended) => Also,
  signal: AbortSignal,
): Promise<Extended> {
  const { plan } = attachment;
  await requireGrowth(deps, plan, sizeBytes);
  const task: Task = {
    id: `extend-${plan.id}`,
    kind: 'extend',
    instance: plan.instance,
    attachment: plan.id,
    ...(sizeBytes !== undefined && { sizeBytes }),
  };
  deps.journal.noteTask(task, opening());
  try {
    const extended = await extendNow(deps, steps, attachment, sizeBytes, signal);
    deps.journal.endTask(task.id, closing(extended));
    return extended;
  } catch (error) {
    // Nothing to be undone: a file system that is smaller than its image is a good one, and asked again it is tried again.
    deps.journal.endTask(task.id, {});
    throw error;
  }
}

/** Both halves take the size as they find it: done again, it is done once. */
export async function extendNow(
  deps: EngineDeps,
  steps: Steps,
  attachment: Attached,
  sizeBytes: number | undefined,
  signal: AbortSignal,
): Promise<Extended> {
  const { plan } = attachment;
  const timings: StepTiming[] = [];
  const larger = await timed(plan, 'enlarge', timings, () => enlarge(deps, plan, sizeBytes, signal));
  const grown = await timed(plan, 'grow', timings, () => grow(deps, steps, attachment, signal));
  return { changed: larger || grown, timings };
}

/**
 * Where this process may not grow a mounted one (ext4 without CAP_SYS_RESOURCE), what a stopped instance has is let go for it and mounted
 * again. The image is replaced in one step: a crash leaves the old one or the new one.
 */
async function grow(deps: EngineDeps, steps: Steps, { plan, status }: Attached, signal: AbortSignal): Promise<boolean> {
  try {
    return (await deps.mounter.grow(plan.mountPath, status.fsType)).changed;
  } catch (error) {
    if (!isError(error, 'SV_HOST') || plan.source.kind === 'connection' || plan.image.kind === 'device') throw error;
    const { instance } = await resolve(deps, plan.ref, signal);
    if (instance?.running) throw error;
  }
  try {
    await unwind(plan, [steps.device, steps.mount], { lazy: false, signal });
    await deps.saved.growUnmounted(plan.id, plan.image.path, status.fsType, signal);
  } finally {
    await mountAgain(deps, steps, plan, signal);
  }
  return true;
}

export function isAttached(attachment: Attachment): attachment is Attached {
  return attachment.status.state === 'attached';
}

async function enlarge(
  deps: EngineDeps,
  { source, image }: Plan,
  sizeBytes: number | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  if (source.kind !== 'connection') return await enlargeImage(deps, image, sizeBytes);
  if (sizeBytes !== undefined) await deps.volumes?.enlarge(source.connection, sizeBytes, signal);
  const found = await deps.connections.extend(source.connection, signal);
  if (sizeBytes !== undefined && found < sizeBytes) throw tooSmall(source.connection.name, found, sizeBytes);
  const here = await deps.connections.find(source.connection, signal);
  return here?.kind === 'file' && (await enlargeImage(deps, here, found));
}

async function enlargeImage({ mounter }: EngineDeps, image: ImageRef, sizeBytes: number | undefined): Promise<boolean> {
  const before = await mounter.sizeOf(image);
  const after = await mounter.enlarge(image, sizeBytes ?? before);
  if (sizeBytes !== undefined && after < sizeBytes) throw tooSmall(image.path, after, sizeBytes);
  return after > before;
}

async function requireGrowth({ mounter }: EngineDeps, plan: Plan, sizeBytes: number | undefined): Promise<void> {
  if (sizeBytes === undefined || plan.source.kind === 'connection') return;
  const now = await mounter.sizeOf(plan.image);
  if (sizeBytes >= now) return;
  throw new ShiftvolError(
    'SV_USAGE',
    `Cannot extend ${placeOf(plan)} to ${sizeBytes} bytes: it has ${now}, and never shrinks`,
    { field: 'sizeBytes' },
  );
}

function tooSmall(name: string, found: number, sizeBytes: number): ShiftvolError {
  return new ShiftvolError(
    'SV_CONNECTION',
    `Cannot extend "${name}" to ${sizeBytes} bytes: the device has ${found} on this host`,
    { field: 'sizeBytes', remedy: 'make the volume larger where it is stored, have it rescanned, then ask again' },
  );
}

function placeOf({ instance, target }: Plan): string {
  return `${instance}:${target}`;
}
