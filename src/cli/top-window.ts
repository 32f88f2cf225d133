/** The last minute of an agent's work, as `shiftvol top` has heard of it: how much, how fast, how it ended. Holds no more than that minute. */
import type { Run } from '../engine/recent-runs.ts';

export const WINDOW_MS = 60_000;

export type StepRow = {
  readonly step: string;
  readonly count: number;
  readonly failed: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
};
export type WorkFacts = {
  /** How much of the last minute was watched. */
  readonly watchedSeconds: number;
  /** By action; `recover` for work that nobody asked for. `perSecond` of those that ended well. */
  readonly actions: readonly { readonly action: string; readonly perSecond: number; readonly failed: number }[];
  /** In the order of their first occurrence. */
  readonly steps: readonly StepRow[];
  readonly running: number;
};

type Heard = { run: Run; at: number };

export class Window {
  readonly #heard = new Map<number, Heard>();
  #since: number | undefined;

  /** `nowMs` of one clock for all calls. Returns what has ended since the last call, the oldest first. */
  add(runs: readonly Run[], nowMs: number): readonly Run[] {
    this.#since ??= nowMs;
    const ended = runs.filter(run => run.state !== 'running' && this.#heard.get(run.id)?.run.state !== run.state);
    for (const run of runs) this.#heard.set(run.id, { run, at: nowMs });
    for (const [id, { at }] of this.#heard) if (nowMs - at > WINDOW_MS) this.#heard.delete(id);
    return ended;
  }

  /** Another agent: its numbers begin anew. */
  clear(): void {
    this.#heard.clear();
    this.#since = undefined;
  }

  facts(nowMs: number): WorkFacts {
    const runs = [...this.#heard.values()].filter(({ at }) => nowMs - at <= WINDOW_MS).map(({ run }) => run);
    const watchedMs = Math.min(WINDOW_MS, nowMs - (this.#since ?? nowMs));
    return {
      watchedSeconds: Math.round(watchedMs / 1000),
      actions: actionsOf(runs, Math.max(1000, watchedMs) / 1000),
      steps: stepsOf(runs),
      running: runs.filter(run => run.state === 'running').length,
    };
  }
}

function actionsOf(runs: readonly Run[], seconds: number): WorkFacts['actions'] {
  const byAction = Map.groupBy(runs, run => run.action ?? 'recover');
  const count = (of: readonly Run[], state: Run['state']) => of.filter(run => run.state === state).length;
  return [...byAction].map(([action, of]) => ({
    action,
    perSecond: Math.round((count(of, 'done') / seconds) * 100) / 100,
    failed: count(of, 'failed'),
  }));
}

function stepsOf(runs: readonly Run[]): readonly StepRow[] {
  const byStep = Map.groupBy(
    runs.flatMap(run => run.steps),
    ({ step }) => step,
  );
  return [...byStep].map(([step, of]) => {
    const sorted = of.map(({ ms }) => ms).toSorted((a, b) => a - b);
    return {
      step,
      count: of.length,
      failed: of.filter(({ failed }) => failed !== undefined).length,
      p50Ms: quantile(sorted, 0.5),
      p99Ms: quantile(sorted, 0.99),
      maxMs: sorted.at(-1) ?? 0,
    };
  });
}

/** The nearest rank: a value that was measured. Of nothing, 0. */
export function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * q) - 1)] ?? 0;
}
