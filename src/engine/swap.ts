/**
 * Another volume takes the place of one that is attached, with all that is on it: Cinder moves a volume that is in use, or gives it another
 * type. Copied is what nobody can write to: of a stopped instance it is not even mounted; of a running one it is frozen while it is copied, and
 * it leaves the container before it moves again. What a process in there holds cannot leave: that is refused, as a detach is.
 */
import { isError, report, ShiftvolError } from '../errors.ts';
import type { EngineDeps } from './deps.ts';
import { isAttached } from './extend.ts';
import type { Attachment, AttachmentEvent, Connection, InstanceRef, Plan } from './model.ts';
import type { Instance } from './ports.ts';
import { attachmentNotFound, internal, volumeInUse } from './refuse.ts';
import { mountAgain } from './remount.ts';
import type { Resolved } from './resolve.ts';
import { resolve } from './resolve.ts';
import { timed, unwind } from './saga.ts';
import type { Secrets } from './secrets.ts';
import type { Steps } from './steps.ts';
import { copyRunning, copyStopped, mounting, STOP, type SwapTask, type Work } from './swap-copy.ts';
import type { Tasks } from './tasks.ts';

export type SwapRequest = {
  readonly requestId?: string;
  readonly instance: InstanceRef;
  /** The one that is attached. */
  readonly volumeId: string;
  readonly connection: Connection;
  readonly secrets?: Secrets;
  /** The file system is to have all of the new volume; else it stays as large as it is. */
  readonly grows: boolean;
};
/** Called in the order of its instance. */
export async function swap(
  deps: EngineDeps,
  steps: Steps,
  tasks: Tasks,
  request: SwapRequest,
  { key, instance }: Resolved,
  signal: AbortSignal,
): Promise<Attachment> {
  const { journal } = deps;
  const { connection } = request;
  const there = journal.list(key).find(a => isOf(a.plan, connection));
  if (there && isAttached(there)) return there;
  const found = journal.list(key).find(a => a.plan.volumeId === request.volumeId);
  if (!found || !isAttached(found))
    throw attachmentNotFound(`volume "${request.volumeId}" of "${request.instance.ref}"`);
  requireSwappable(found.plan, found.status.fsType, connection, instance);
  const holder = journal.withImage(connection.name)[0];
  if (holder) throw volumeInUse({ image: { path: connection.name } }, holder);
  const { plan: from, status: was } = found;
  const to: Plan = {
    ...from,
    source: { ...from.source, kind: 'connection', connection },
    image: { kind: connection.kind, path: connection.name },
    volumeId: connection.volumeId,
    formerVolumeId: request.volumeId,
  };
  const frozen = instance?.pid === undefined ? [] : [from.mountPath];
  const facts = { attachment: from.id, instance: key, from, was, to, left: false, frozen };
  const task: SwapTask = { id: `swap-${from.id}`, kind: 'swap', ...facts };
  const began = performance.now();
  const event = eventsOf(deps, task, request, began);
  const work: Work = { timings: [], signal };
  try {
    return await tasks.swap(task, { events: [event('start')] }, async () => {
      await place(deps, steps, task, request, instance, work, () => event('end', { steps: work.timings }));
      const swapped = journal.find(from.id);
      if (!swapped) throw internal(to, 'it is gone');
      return swapped;
    });
  } catch (error) {
    journal.record({ events: [event('error', { error: report(error) })] });
    throw error;
  } finally {
    await journal.flushed();
  }
}

/** @throws SV_RUNTIME_UNSUPPORTED, SV_BUSY */
function requireSwappable(plan: Plan, fsType: string, to: Connection, instance: Instance | undefined): void {
  const from = plan.source;
  const why =
    from.kind !== 'connection'
      ? 'it is stored on this host'
      : from.connection.encryption || to.encryption
        ? 'it is encrypted'
        : plan.readOnly || to.readOnly
          ? 'it is attached read-only'
          : // Two devices of one file system are one to btrfs, whichever it finds.
            fsType === 'btrfs'
            ? 'it holds a btrfs'
            : undefined;
  if (why !== undefined)
    throw new ShiftvolError(
      'SV_RUNTIME_UNSUPPORTED',
      `Cannot put another volume in the place of ${plan.instance}:${plan.target}: ${why}`,
      { remedy: 'detach it, and attach the other one' },
    );
  if (plan.role === 'root' && instance?.running)
    throw new ShiftvolError(
      'SV_BUSY',
      `Cannot put another volume in the place of the root file system of "${plan.instance}": the instance runs`,
      { remedy: STOP },
    );
}
async function place(
  deps: EngineDeps,
  steps: Steps,
  task: SwapTask,
  { connection, secrets, grows }: SwapRequest,
  instance: Instance | undefined,
  work: Work,
  told: () => AttachmentEvent,
): Promise<void> {
  const { journal } = deps;
  const { to } = task;
  const { timings, signal } = work;
  await journal.flushed();
  const connected = await timed(to, 'connect', timings, () =>
    deps.connections.connect(connection, { signal, asItIs: true, ...(secrets && { secrets }) }),
  );
  if (instance?.pid === undefined) await copyStopped(deps, steps, task, connected, work);
  else await copyRunning(deps, steps, task, connected, { ...instance, pid: instance.pid }, work);
  // From here on the old one is mounted nowhere, and the new one has all that it had. What fails now puts the old one back all the same.
  journal.begin(to, {});
  await journal.flushed();
  // What was known of it before had the old one's device.
  const { instance: now } = await resolve(deps, to.ref, signal);
  const reserved = { plan: to, connected, ...(now && { instance: now }) };
  const opened = await timed(to, 'device', timings, () => steps.device.do(reserved, signal));
  await using device = opened.device;
  if (task.was.fsUuid !== undefined && task.was.fsUuid !== device.uuid)
    throw internal(to, `the copy has the file system ${device.uuid}, not ${task.was.fsUuid}`);
  const mounted = await timed(to, 'mount', timings, () => steps.mount.do(opened, signal));
  if (grows) await timed(to, 'grow', timings, () => deps.mounter.grow(to.mountPath, device.fsType));
  await timed(to, 'handoff', timings, () => steps.handoff.do(mounted, signal));
  const attachedAt = new Date().toISOString();
  journal.settle(
    to.id,
    { state: 'attached', device: device.path, fsType: device.fsType, fsUuid: device.uuid, attachedAt },
    { events: [told()] },
  );
}

/** The new one is what the instance has. */
export function isSwapped({ journal }: EngineDeps, { attachment, to }: SwapTask): boolean {
  const now = journal.find(attachment);
  return (
    now !== undefined && isAttached(now) && to.source.kind === 'connection' && isOf(now.plan, to.source.connection)
  );
}

/** What a crash or a failure left of it: ended, or the old one is put back. Each part may be done twice. */
export async function endSwap(deps: EngineDeps, steps: Steps, task: SwapTask, signal: AbortSignal): Promise<void> {
  if (isSwapped(deps, task)) return await letGoOfFormer(deps, task, signal);
  const { from, to, was } = task;
  const { journal } = deps;
  if (!isSame(journal.find(task.attachment)?.plan, from)) {
    await unwind(to, mounting(steps), { lazy: false, signal });
    journal.begin(from, {});
    journal.settle(from.id, was, {});
  }
  // Never let go of, so that only a reboot takes it from here; and then its instance may be on another host by now.
  if (await isStillOurs(deps, from, signal)) {
    await mountAgain(deps, steps, from, signal);
    if (task.left && from.handoff === 'device') await handBack(deps, steps, from, signal);
  }
  await letGo(deps, to, signal);
}

/** The runtime may have the device and the container not its mount: then it gets it anew. What a process in there holds is there. */
async function handBack(deps: EngineDeps, steps: Steps, plan: Plan, signal: AbortSignal): Promise<void> {
  const { instance } = await resolve(deps, plan.ref, signal);
  if (!instance) return;
  const mounted = await deps.mounter.inspect(plan.mountPath);
  if (!mounted) return;
  try {
    if (instance.pid !== undefined)
      await deps.mounter.unmountInside(instance.pid, plan.target, mounted.devno, { lazy: false });
  } catch (error) {
    if (isError(error, 'SV_BUSY')) return;
    throw error;
  }
  await steps.handoff.undo(plan, { lazy: false, signal });
  const { instance: now } = await resolve(deps, plan.ref, signal);
  if (now) await steps.handoff.do({ plan, instance: now, mounted }, signal);
}

async function isStillOurs({ connections }: EngineDeps, { source }: Plan, signal: AbortSignal): Promise<boolean> {
  if (source.kind !== 'connection') return false;
  return connections.isOwn(source.connection) || (await connections.find(source.connection, signal)) !== undefined;
}

export async function letGoOfFormer(deps: EngineDeps, { from }: SwapTask, signal: AbortSignal): Promise<void> {
  await letGo(deps, from, signal);
}

async function letGo(
  { connections, journal }: EngineDeps,
  { source, image }: Plan,
  signal: AbortSignal,
): Promise<void> {
  if (source.kind !== 'connection' || journal.withImage(image.path).length > 0) return;
  await connections.disconnect(source.connection, { signal });
}

function isOf({ source }: Plan, { name }: Connection): boolean {
  return source.kind === 'connection' && source.connection.name === name;
}

function isSame(now: Plan | undefined, { source }: Plan): boolean {
  return now !== undefined && source.kind === 'connection' && isOf(now, source.connection);
}

function eventsOf({ host }: EngineDeps, { to }: SwapTask, { requestId }: SwapRequest, began: number) {
  return (phase: AttachmentEvent['phase'], more: Pick<AttachmentEvent, 'steps' | 'error'> = {}): AttachmentEvent => ({
    action: 'swap',
    phase,
    instance: to.instance,
    attachmentId: to.id,
    target: to.target,
    host,
    at: new Date().toISOString(),
    ...(to.volumeId === undefined ? {} : { volumeId: to.volumeId }),
    ...(requestId === undefined ? {} : { requestId }),
    ...(phase === 'start' ? {} : { durationMs: Math.round((performance.now() - began) * 1000) / 1000 }),
    ...more,
  });
}
