/** What the engine does, counted as it does it: commands and their steps, by what this process tells of itself. */
import { type CommandMessage, commandChannel } from '../engine/channels.ts';
import { type Plan, rootSource, type Source, STEPS } from '../engine/model.ts';
import { type StepMessage, stepChannel } from '../engine/saga.ts';
import { asError, CODES } from '../errors.ts';
import type { Metrics } from './client.ts';

/** Besides the steps of an attach. Names that are neither become `other`: what a label may be is bounded here, whatever is done later. */
const OTHER_STEPS = ['enlarge', 'grow', 'remove', 'leave', 'copy', 'freeze', 'thaw'] as const;
const KNOWN_STEPS: ReadonlySet<string> = new Set([...STEPS, ...OTHER_STEPS]);
const UNDO = 'undo ';

/** Counts from now on. Disposing ends that. */
export function countEngine(metrics: Metrics): Disposable {
  const steps = metrics.histogram(
    'shiftvol_step_duration_seconds',
    'Steps of attaches, detaches and the like, and their undoing.',
    ['step', 'direction', 'source', 'runtime', 'outcome'],
  );
  const commands = metrics.histogram(
    'shiftvol_command_duration_seconds',
    'Commands from their arrival to their end, waiting for others of the same instance included. Outcome: done; unchanged, it was so already; refused, by what was asked or what is there; failed, by this host or what it needs.',
    ['action', 'source', 'outcome'],
  );
  const errors = metrics.counter('shiftvol_command_errors_total', 'Commands that came to no good end, by code.', [
    'action',
    'code',
  ]);
  const undone = metrics.counter('shiftvol_undo_failures_total', 'Steps that could not be undone.', ['step']);
  // Alerts look at the increase, which needs a first value.
  for (const step of STEPS) undone.inc({ step }, 0);
  const running = metrics.gauge('shiftvol_commands_running', 'Commands that have arrived and not ended.');
  running.set(0);

  const onStep = (message: unknown): void => {
    const { step, ms, error, plan } = message as StepMessage;
    const undoing = step.startsWith(UNDO);
    const name = undoing ? step.slice(UNDO.length) : step;
    const known = KNOWN_STEPS.has(name) ? name : 'other';
    const outcome = error === undefined ? 'ok' : 'error';
    const direction = undoing ? 'undo' : 'do';
    steps.observe({ step: known, direction, source: kindOf(plan.source), runtime: plan.runtime, outcome }, ms / 1000);
    if (undoing && error !== undefined) undone.inc({ step: known });
  };

  const started = new WeakMap<object, number>();
  const end = (message: CommandMessage & { readonly error?: unknown }) => {
    const begun = started.get(message);
    if (begun === undefined) return;
    started.delete(message);
    running.dec();
    const { command, result, error } = message;
    const { action } = command;
    const source =
      command.action === 'attach' ? command.source : command.action === 'spawn' ? rootSource(command) : undefined;
    commands.observe(
      { action, source: source ? kindOf(source) : sourceOf(result?.attachments[0]?.plan), outcome: outcomeOf(message) },
      (performance.now() - begun) / 1000,
    );
    if (error !== undefined) errors.inc({ action, code: asError(error).code });
  };
  const handlers = {
    start: (message: CommandMessage) => {
      started.set(message, performance.now());
      running.inc();
    },
    end: () => undefined,
    asyncStart: () => undefined,
    asyncEnd: end,
    error: () => undefined,
  };
  stepChannel.subscribe(onStep);
  commandChannel.subscribe(handlers);
  return {
    [Symbol.dispose]() {
      stepChannel.unsubscribe(onStep);
      commandChannel.unsubscribe(handlers);
    },
  };
}

/** A failure that lies in what was asked (HTTP's 4xx) is no fault of this host. */
function outcomeOf({ result, error }: CommandMessage & { readonly error?: unknown }): string {
  if (error !== undefined) return CODES[asError(error).code].http < 500 ? 'refused' : 'failed';
  return result?.changed === false ? 'unchanged' : 'done';
}

const sourceOf = (plan: Plan | undefined): string => (plan ? kindOf(plan.source) : 'none');
/** Of what a service exports, how. */
const kindOf = (source: Source): string => (source.kind === 'connection' ? source.connection.type : source.kind);
