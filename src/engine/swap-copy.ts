/** The copying of a swap: unmounted where the instance is stopped; else frozen, and out of the container before it moves again. */
import { isError, ShiftvolError } from '../errors.ts';
import type { EngineDeps } from './deps.ts';
import type { Plan, StepTiming, Task } from './model.ts';
import type { ImageRef } from './ports.ts';
import { internal } from './refuse.ts';
import { timed, unwind } from './saga.ts';
import type { Steps } from './steps.ts';
import type { Copied } from './volume-ports.ts';

export type SwapTask = Extract<Task, { kind: 'swap' }>;
export type Work = { readonly timings: StepTiming[]; readonly signal: AbortSignal };

/** No volume is read faster: what cannot be done in time is not begun, since everybody in the instance would wait for nothing. */
const FASTEST_BYTES_PER_MS = 4 * 2 ** 20;

export const STOP = 'stop the instance first: what is not in use is copied without hurry';

export async function copyStopped(
  deps: EngineDeps,
  steps: Steps,
  task: SwapTask,
  target: ImageRef,
  { timings, signal }: Work,
): Promise<void> {
  const { from } = task;
  const copy = await prepareCopy(deps, from, target, signal);
  deps.journal.noteTask({ ...task, left: true }, {});
  await unwind(from, mounting(steps), { lazy: false, signal }, timings);
  const copied = await timed(from, 'copy', timings, () => copy.run(signal));
  await copied.complete();
}

export async function copyRunning(
  deps: EngineDeps,
  steps: Steps,
  task: SwapTask,
  target: ImageRef,
  { pid }: { readonly pid: number },
  { timings, signal }: Work,
): Promise<void> {
  const { from } = task;
  const { copyFreezeMs: deadlineMs, freezer, mounter, journal } = deps;
  const copy = await prepareCopy(deps, from, target, signal);
  if (copy.bytes > deadlineMs * FASTEST_BYTES_PER_MS) throw tooLong(from, deadlineMs);
  const mounted = await mounter.inspect(from.mountPath);
  if (!mounted) throw internal(from, 'it is not mounted');
  await using frozen = await freezer.freeze([from.mountPath], { deadlineMs, signal });
  const over = new AbortController();
  void frozen.ended.then(() => over.abort());
  let copied: Copied;
  try {
    copied = await timed(from, 'copy', timings, () => copy.run(AbortSignal.any([signal, over.signal])));
  } catch (error) {
    if (!signal.aborted && !frozen.isFrozen) throw tooLong(from, deadlineMs, error);
    throw error;
  }
  journal.noteTask({ ...task, left: true }, {});
  try {
    await mounter.unmountInside(pid, from.target, mounted.devno, { lazy: false });
  } catch (error) {
    // It is where it was.
    journal.noteTask(task, {});
    if (!isError(error, 'SV_BUSY')) throw error;
    throw new ShiftvolError('SV_BUSY', `Cannot take ${from.instance}:${from.target} away to put another in its place`, {
      remedy: STOP,
      cause: error,
    });
  }
  // Nobody in the container has it any more; and if it moved before now, what was copied may be torn.
  await frozen.thaw();
  await unwind(from, mounting(steps), { lazy: false, signal }, timings);
  await copied.complete();
}

/** Of what is connected, what makes it visible. */
export const mounting = (steps: Steps) => [steps.device, steps.mount, steps.handoff] as const;

/** @throws SV_IMAGE_REFUSED */
async function prepareCopy(
  { connections, mounter, copier }: EngineDeps,
  from: Plan,
  to: ImageRef,
  signal: AbortSignal,
) {
  const source = from.source.kind === 'connection' ? await connections.find(from.source.connection, signal) : undefined;
  if (!source) throw internal(from, 'it is not connected');
  const [sizeBytes, toBytes] = [await mounter.sizeOf(source), await mounter.sizeOf(to)];
  const refuse = (what: string) =>
    new ShiftvolError('SV_IMAGE_REFUSED', `Cannot copy ${from.instance}:${from.target} to "${to.path}": ${what}`, {
      field: 'new_connection_info',
    });
  if (toBytes < sizeBytes) throw refuse(`it has ${toBytes} bytes, ${sizeBytes} are needed`);
  if (!(await copier.isBlank(to, signal))) throw refuse('there is something on it, a blank volume is accepted');
  return {
    bytes: await copier.bytesToRead(source, sizeBytes),
    run: (within: AbortSignal) => copier.copy(source, to, { sizeBytes, toBytes, signal: within }),
  };
}

function tooLong({ instance, target }: Plan, limitMs: number, cause?: unknown): ShiftvolError {
  return new ShiftvolError(
    'SV_TIMEOUT',
    `Cannot copy ${instance}:${target} while the instance runs: writing would stand still for more than ${limitMs} ms`,
    { remedy: `${STOP}; or allow more by volumes.copy_freeze_ms`, ...(cause !== undefined && { cause }) },
  );
}
