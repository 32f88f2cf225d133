/** What this process did lately, step by step, for a person who looks: bounded, in memory alone, and kept only while somebody asks. */
import { randomUUID } from 'node:crypto';
import { type ErrorReport, report } from '../errors.ts';
import { eventChannel } from './events.ts';
import type { AttachmentEvent } from './model.ts';
import { type StepMessage, stepChannel } from './saga.ts';

/** One command's work on one attachment. */
export type Run = {
  readonly id: number;
  readonly attachment: string;
  readonly instance: string;
  /** Where there was a step to do. */
  readonly target?: string;
  /** Null: work that no command asked for in this moment (recover; the tasks of snapshots). */
  readonly action: AttachmentEvent['action'] | null;
  /** ISO 8601. */
  readonly at: string;
  readonly state: 'running' | 'done' | 'failed';
  readonly durationMs?: number;
  readonly steps: readonly RunStep[];
  readonly error?: ErrorReport;
};
/** `startMs`: since the run began. */
export type RunStep = {
  readonly step: string;
  readonly startMs: number;
  readonly ms: number;
  readonly failed?: string;
};

type Open = {
  -readonly [K in keyof Run]: Run[K];
} & { steps: RunStep[]; startedMs: number; version: number };

const MOST_RUNS = 256;
const MOST_STEPS = 64;
const MOST_TEXT = 500;
const PAUSE_MS = 2000;
/** Who has not asked for so long does not look any more. */
const FORGET_MS = 60_000;

export class RecentRuns implements Disposable {
  /** The oldest first. */
  #runs: Open[] = [];
  /** What is under way, by attachment. */
  readonly #open = new Map<string, Open>();
  /** Commands that name no attachment (destroy, detach all), by instance: each step says which one it is of. */
  readonly #wide = new Map<string, AttachmentEvent['action']>();
  readonly #listeners = new Set<(instance: string) => void>();
  #epoch = '';
  #version = 0;
  #nextId = 1;
  #kept = 0;
  #listening = false;
  #forget: NodeJS.Timeout | undefined;

  /** Remembers from now on, until it is disposed of. */
  keep(): Disposable {
    this.#kept++;
    this.#listen();
    return {
      [Symbol.dispose]: () => {
        this.#kept--;
        this.#ifUnused();
      },
    };
  }

  /**
   * What has changed since `version` (0: all that is remembered), the oldest first. Whoever asks for the first time has nothing
   * remembered yet, and is remembered for until he has not asked for a minute. With another epoch than before something may have been done
   * that nobody remembers.
   */
  since(version: number): { readonly epoch: string; readonly version: number; readonly runs: readonly Run[] } {
    this.#listen();
    clearTimeout(this.#forget);
    this.#forget = setTimeout(() => {
      this.#forget = undefined;
      this.#ifUnused();
    }, FORGET_MS).unref();
    // A version of an earlier process, or from before all was forgotten.
    const known = version > this.#version ? 0 : version;
    return {
      epoch: this.#epoch,
      version: this.#version,
      runs: this.#runs.filter(run => run.version > known).map(toRun),
    };
  }

  /** Calls back with the instance whose attachments may be others by now. Returns the way to stop that. */
  onChange(listener: (instance: string) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#forget);
    this.#forget = undefined;
    stepChannel.unsubscribe(this.#onStep);
    eventChannel.unsubscribe(this.#onEvent);
    this.#listening = false;
    this.#runs = [];
    this.#open.clear();
    this.#wide.clear();
  }

  #listen(): void {
    if (this.#listening) return;
    this.#listening = true;
    this.#epoch = randomUUID();
    stepChannel.subscribe(this.#onStep);
    eventChannel.subscribe(this.#onEvent);
  }

  #ifUnused(): void {
    if (this.#kept === 0 && this.#forget === undefined) this[Symbol.dispose]();
  }

  readonly #onStep = (message: unknown): void => {
    // Published by `timed` alone.
    const { attachment, instance, step, ms, plan, error } = message as StepMessage;
    const open = this.#open.get(attachment);
    const run = open && !isOver(open) ? open : this.#begin(attachment, instance, this.#wide.get(instance) ?? null);
    run.target = short(plan.target);
    if (run.steps.length < MOST_STEPS)
      run.steps.push({
        step,
        startMs: rounded(Math.max(0, performance.now() - ms - run.startedMs)),
        ms,
        ...(error !== undefined && { failed: short(report(error).message) }),
      });
    if (run.action === null) run.state = error === undefined ? 'done' : 'failed';
    this.#changed(instance, run);
  };

  readonly #onEvent = (message: unknown): void => {
    // Published by EventMaker alone.
    const event = message as AttachmentEvent;
    const { attachmentId: id, instance, action } = event;
    if (event.phase === 'start') {
      if (id === undefined) this.#wide.set(instance, action);
      else this.#begin(id, instance, action);
      this.#changed(instance);
      return;
    }
    if (id === undefined) this.#wide.delete(instance);
    const ended = [...this.#open.values()].filter(run => run.state === 'running' && isEndedBy(run, event));
    for (const run of ended) this.#end(run, event);
    this.#changed(instance);
  };

  #begin(attachment: string, instance: string, action: Run['action']): Open {
    const run: Open = {
      id: this.#nextId++,
      attachment,
      instance,
      action,
      at: new Date().toISOString(),
      state: 'running',
      steps: [],
      startedMs: performance.now(),
      version: ++this.#version,
    };
    this.#open.set(attachment, run);
    this.#runs.push(run);
    const [oldest] = this.#runs;
    if (this.#runs.length > MOST_RUNS && oldest) {
      this.#runs.shift();
      if (this.#open.get(oldest.attachment) === oldest) this.#open.delete(oldest.attachment);
    }
    return run;
  }

  #end(run: Open, { durationMs, error }: AttachmentEvent): void {
    // A failure is told before what was begun is undone.
    if (error === undefined) this.#open.delete(run.attachment);
    run.state = error === undefined ? 'done' : 'failed';
    if (error) run.error = { ...error, message: short(error.message) };
    if (durationMs !== undefined) {
      // The command was taken up before its plan was made: steps are counted from there.
      const before = Math.max(0, run.startedMs - (performance.now() - durationMs));
      run.steps = run.steps.map(step => ({ ...step, startMs: rounded(step.startMs + before) }));
      run.durationMs = durationMs;
      run.startedMs -= before;
    }
    run.version = ++this.#version;
  }

  #changed(instance: string, run?: Open): void {
    if (run) run.version = ++this.#version;
    for (const listener of this.#listeners) listener(instance);
  }
}

/** Of what nobody asked for, and of undoing, nobody tells the end: a pause is one. */
function isOver({ action, state, startedMs, steps }: Open): boolean {
  if (action !== null && state === 'running') return false;
  const last = steps.at(-1);
  return performance.now() - startedMs - (last ? last.startMs + last.ms : 0) > PAUSE_MS;
}

function isEndedBy(run: Open, { attachmentId, instance, action }: AttachmentEvent): boolean {
  if (attachmentId !== undefined) return run.attachment === attachmentId;
  return run.instance === instance && run.action === action;
}

function toRun({ startedMs: _, version: __, ...run }: Open): Run {
  return { ...run, steps: [...run.steps] };
}

const rounded = (ms: number): number => Math.round(ms * 1000) / 1000;
const short = (text: string): string => (text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT - 1)}…` : text);
