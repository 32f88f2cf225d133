import { asError, isError, report, ShiftvolError } from '../errors.ts';
import type { EngineDeps } from './deps.ts';
import type { Attachment, AttachmentState, FsType, InstanceKey, Plan, StepTiming } from './model.ts';
import type { Also, Journal } from './ports.ts';
import { Saga, unwind } from './saga.ts';
import type { Reserved, Steps } from './steps.ts';

export type Built = { readonly status: AttachmentState; readonly timings: readonly StepTiming[] };

/**
 * Runs the steps of a plan whose intent is journaled, and journals the end: `attached`, or all undone.
 * `closing` gives what the journal is to note in the same transaction, from the outcome.
 */
export async function build(
  deps: EngineDeps,
  steps: Steps,
  reserved: Reserved,
  closing: (end: Built | { error: ShiftvolError }) => Also,
  signal: AbortSignal,
): Promise<Built> {
  const { plan } = reserved;
  const saga = new Saga(plan, step => deps.journal.step(plan.id, step), signal);
  try {
    const status = await place(deps, steps, saga, reserved);
    const built = { status, timings: saga.timings };
    deps.journal.settle(plan.id, status, closing(built));
    return built;
  } catch (thrown) {
    const error = asError(thrown);
    await takeBack(deps, plan, error, () => saga.rollBack(), closing({ error }));
    throw error;
  }
}

async function place(deps: EngineDeps, steps: Steps, saga: Saga, reserved: Reserved): Promise<AttachmentState> {
  // The intent gets to the disk while the first steps run; nothing that they do gets there sooner: it is the mount that writes.
  const intentOnDisk = deps.journal.flushed();
  const isConnection = reserved.plan.source.kind === 'connection';
  const ready = await saga.run(isConnection ? steps.connect : steps.snapshot, reserved);
  let device: string;
  let fsType: FsType;
  let fsUuid: string;
  let mounted: Awaited<ReturnType<Steps['mount']['do']>>;
  {
    const opened = await saga.run(steps.device, ready);
    // The mount keeps the device from then on; our own descriptor would make a later unmount of the device wait for us.
    await using blockDevice = opened.device;
    await intentOnDisk;
    mounted = await saga.run(steps.mount, opened);
    device = blockDevice.path;
    fsType = blockDevice.fsType;
    fsUuid = blockDevice.uuid;
  }
  await saga.run(steps.handoff, mounted);
  return { state: 'attached', device, fsType, fsUuid, attachedAt: new Date().toISOString() };
}

/**
 * Undoes what a failed attach began and notes that it is gone; a kept snapshot goes back to `detached`. Where an undo fails the
 * attachment stays as `undoing`, for `recover`.
 */
export async function takeBack(
  deps: EngineDeps,
  plan: Plan,
  error: ShiftvolError,
  undo: () => Promise<void>,
  also: Also,
): Promise<void> {
  deps.journal.settle(plan.id, { state: 'undoing', error: report(error) }, {});
  try {
    await undo();
  } catch (undoError) {
    // The step's error is the first thing to know; the undo's error says what is left.
    deps.journal.settle(plan.id, { state: 'undoing', error: report(undoError) }, also);
    throw new SuppressedError(undoError, error);
  }
  if (plan.snapshotKept)
    deps.journal.settle(plan.id, { state: 'detached', detachedAt: new Date().toISOString() }, also);
  else deps.journal.remove(plan.id, also);
}

/** After a crash nothing but the plan is known: undo all that may have begun. */
export async function undoAll(deps: EngineDeps, steps: Steps, { plan, status }: Attachment, also: Also): Promise<void> {
  const error =
    status.state === 'undoing'
      ? new ShiftvolError(status.error.code, status.error.message)
      : new ShiftvolError('SV_CANCELLED', `Attaching ${plan.instance}:${plan.target} was interrupted`);
  try {
    await takeBack(deps, plan, error, () => unwind(plan, steps.all(plan), { lazy: false }), also);
  } catch (thrown) {
    if (thrown instanceof SuppressedError && isError(thrown.error)) throw thrown.error;
    throw thrown;
  }
}

/** The ids of a root file system that never came to be go back with it, unless something else of the instance uses them. */
export function releasedWith(journal: Journal, plan: Plan): { release?: InstanceKey } {
  const alone = journal.list(plan.instance).every(a => a.plan.id === plan.id);
  return plan.role === 'root' && alone && !plan.snapshotKept ? { release: plan.instance } : {};
}
