import { channel } from 'node:diagnostics_channel';
import { ShiftvolError } from '../errors.ts';
import type { AttachmentId, Plan, StepName, StepTiming } from './model.ts';

/**
 * One step of an attach. Names and paths derive from the plan, so that `do` twice is one effect, and `undo` needs nothing but the
 * plan: it works after a crash too, and "not there" is success.
 */
export type Step<In, Out> = {
  readonly name: StepName;
  do(input: In, signal: AbortSignal): Promise<Out>;
  undo(plan: Plan, options: UndoOptions): Promise<void>;
};
export type UndoOptions = { readonly lazy: boolean; readonly signal?: AbortSignal };
export type Undoable = Pick<Step<never, unknown>, 'name' | 'undo'>;

/** Every step goes through this: tests inject their faults here. */
export type WrapStep = <In, Out>(step: Step<In, Out>) => Step<In, Out>;

/** Published for each step done or undone: the one source of logs, metrics and timings. */
export type StepMessage = {
  readonly attachment: AttachmentId;
  readonly instance: string;
  readonly step: string;
  readonly ms: number;
  readonly plan: Plan;
  readonly error?: unknown;
};
export const stepChannel = channel('shiftvol.step');

/** Runs `work`, and tells how long it took: to `timings` where it went well, to the channel always. */
export async function timed<T>(plan: Plan, step: string, timings: StepTiming[], work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  let error: unknown;
  try {
    return await work();
  } catch (thrown) {
    error = thrown;
    throw thrown;
  } finally {
    const ms = Math.round((performance.now() - started) * 1000) / 1000;
    if (error === undefined) timings.push({ step, ms });
    if (stepChannel.hasSubscribers) {
      const message: StepMessage = { attachment: plan.id, instance: plan.instance, step, ms, plan };
      stepChannel.publish(error === undefined ? message : { ...message, error });
    }
  }
}

/**
 * The steps of one attach: each is noted in the journal before it begins, and can be taken back, newest first.
 * Not an AsyncDisposableStack: that goes on after an undo has failed, and would remove a snapshot under a mount that did not go.
 */
export class Saga {
  readonly timings: StepTiming[] = [];
  readonly #plan: Plan;
  readonly #note: (step: StepName) => void;
  readonly #signal: AbortSignal;
  readonly #begun: Undoable[] = [];

  constructor(plan: Plan, note: (step: StepName) => void, signal: AbortSignal) {
    this.#plan = plan;
    this.#note = note;
    this.#signal = signal;
  }

  async run<In, Out>(step: Step<In, Out>, input: In): Promise<Out> {
    this.#signal.throwIfAborted();
    this.#note(step.name);
    this.#begun.push(step);
    return await timed(this.#plan, step.name, this.timings, () => step.do(input, this.#signal));
  }

  /** Undoes what was begun. @throws SV_UNDO: an undo failed; what lies below it was left alone */
  async rollBack(): Promise<void> {
    await unwind(this.#plan, this.#begun, { lazy: false });
  }
}

/** Undoes `steps`, the last first, and stops at the first that fails: what lies below is still in use. @throws SV_UNDO */
export async function unwind(
  plan: Plan,
  steps: readonly Undoable[],
  options: UndoOptions,
  timings: StepTiming[] = [],
): Promise<void> {
  for (const step of steps.toReversed()) {
    try {
      await timed(plan, `undo ${step.name}`, timings, () => step.undo(plan, options));
    } catch (cause) {
      throw new UndoError(step.name, plan, cause);
    }
  }
}

/** An undo failed. `step` says which; the journal stays open. */
export class UndoError extends ShiftvolError {
  readonly step: StepName;

  constructor(step: StepName, plan: Plan, cause: unknown) {
    super('SV_UNDO', `Cannot undo step "${step}" of attachment ${plan.id} (${plan.instance}:${plan.target})`, {
      remedy: 'mend what it says, then run "shiftvol recover"',
      cause,
    });
    this.step = step;
  }
}
