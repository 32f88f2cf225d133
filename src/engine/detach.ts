import { isError, report } from '../errors.ts';
import type { EngineDeps } from './deps.ts';
import type { Attachment, AttachmentState, Plan, RemovalGoal, StepTiming } from './model.ts';
import type { Also, Instance } from './ports.ts';
import { resolve } from './resolve.ts';
import { timed, UndoError, unwind } from './saga.ts';
import type { Steps } from './steps.ts';

export type Taken = { readonly status: AttachmentState | undefined; readonly timings: readonly StepTiming[] };

type Removal = {
  readonly goal: RemovalGoal;
  readonly lazy: boolean;
  readonly instance: Instance | undefined;
  readonly signal: AbortSignal;
};

/**
 * Takes an attachment away from its instance: inside the container first, which is the test for "nobody uses it"; then the runtime's
 * device, the mount, the loop device. By its goal a snapshot is kept (state `detached`) or removed; a volume that was not made here is
 * only let go.
 *
 * @throws SV_BUSY naming the holders: nothing has changed then
 * @throws SV_UNDO: it went half way; the journal stays at `detaching` and recover goes on
 */
export async function takeAway(
  deps: EngineDeps,
  steps: Steps,
  attachment: Attachment,
  options: Removal,
  closing: (taken: Taken) => Also,
): Promise<Taken> {
  const { plan, status } = attachment;
  const { journal } = deps;
  const { goal } = options;
  const timings: StepTiming[] = [];
  journal.settle(plan.id, { state: 'detaching', goal }, {});
  const goalOnDisk = journal.flushed();
  try {
    await leaveContainer(deps, attachment, options, timings);
  } catch (error) {
    // Nothing has happened yet: it is what it was.
    journal.settle(plan.id, status, {});
    throw error;
  }
  try {
    await unwind(plan, steps.held(plan), { lazy: options.lazy, signal: options.signal }, timings);
  } catch (error) {
    if (error instanceof UndoError && (await handedBack(deps, steps, attachment, options, error))) {
      journal.settle(plan.id, status, {});
      throw error.cause;
    }
    const waiting: AttachmentState = { state: 'detaching', goal, error: report(error) };
    if (options.lazy && error instanceof UndoError && error.step === 'device') {
      // As asked: it is out of sight, and whoever holds it keeps it until he lets go. Recover notes the end of it.
      const taken = { status: waiting, timings };
      journal.settle(plan.id, waiting, closing(taken));
      return taken;
    }
    journal.settle(plan.id, waiting, {});
    throw error;
  }
  // From here on it ends as it was asked to, also after a power cut: a snapshot must not go before that is sure.
  await goalOnDisk;
  return await finish(deps, plan, goal, timings, closing);
}

async function finish(
  deps: EngineDeps,
  plan: Plan,
  goal: RemovalGoal,
  timings: StepTiming[],
  closing: (taken: Taken) => Also,
): Promise<Taken> {
  const { snapshot } = plan;
  if (snapshot !== undefined && goal === 'detach') {
    const status: AttachmentState = { state: 'detached', detachedAt: new Date().toISOString() };
    const taken = { status, timings };
    deps.journal.settle(plan.id, status, closing(taken));
    return taken;
  }
  if (snapshot !== undefined) await timed(plan, 'remove', timings, () => deps.backend.removeSnapshot(snapshot));
  const isLast = goal === 'destroy instance' && deps.journal.list(plan.instance).length === 1;
  const taken = { status: undefined, timings };
  deps.journal.remove(plan.id, { ...(isLast && { release: plan.instance }), ...closing(taken) });
  return taken;
}

async function leaveContainer(
  deps: EngineDeps,
  { plan }: Attachment,
  { lazy, instance }: Removal,
  timings: StepTiming[],
): Promise<void> {
  if (plan.handoff === 'none' || instance?.pid === undefined) return;
  const mounted = await deps.mounter.inspect(plan.mountPath);
  if (!mounted) return;
  const pid = instance.pid;
  await timed(plan, 'leave', timings, () => deps.mounter.unmountInside(pid, plan.target, mounted.devno, { lazy }));
}

/** A process on the host holds our own path (nobody but root can): the container gets its device back, so that nothing has changed. */
async function handedBack(
  deps: EngineDeps,
  steps: Steps,
  { plan }: Attachment,
  { signal }: Removal,
  error: UndoError,
): Promise<boolean> {
  if (error.step !== 'mount' || !isError(error.cause, 'SV_BUSY')) return false;
  if (plan.handoff === 'none') return true;
  // Looked for again: as it was found before, it had the device that was just removed.
  const { instance } = await resolve(deps, plan.ref, signal);
  if (!instance) return false;
  await steps.handoff.do({ plan, instance, mounted: { path: plan.mountPath, devno: '', mountId: 0n } }, signal);
  return true;
}
