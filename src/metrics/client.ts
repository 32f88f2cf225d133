/**
 * prom-client's registry and three kinds of metric, by file: its index loads the push gateway and default metrics too, with them node:https
 * and all of diagnostics (measured: 20 MiB, these 4).
 */
import { createRequire } from 'node:module';
import type { Counter, Gauge, Histogram, Registry } from 'prom-client';

type Client = typeof import('prom-client');

/** Whatever is made through this is in one registry. */
export type Metrics = {
  readonly registry: Registry;
  counter<const L extends string = never>(name: string, help: string, labels?: readonly L[]): Counter<L>;
  gauge<const L extends string = never>(name: string, help: string, labels?: readonly L[]): Gauge<L>;
  /** Of seconds; `buckets` where half a millisecond to ten seconds do not fit. */
  histogram<const L extends string = never>(
    name: string,
    help: string,
    labels?: readonly L[],
    buckets?: readonly number[],
  ): Histogram<L>;
};

/** From half a millisecond, which a bind mount takes, to ten seconds, when somebody has given up. */
const SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export function newMetrics(): Metrics {
  const load = createRequire(import.meta.url);
  // Files of the package have no types of their own; each exports what the index has under this name.
  const MadeRegistry = load('prom-client/lib/registry') as Client['Registry'];
  const MadeCounter = load('prom-client/lib/counter') as Client['Counter'];
  const MadeGauge = load('prom-client/lib/gauge') as Client['Gauge'];
  const MadeHistogram = load('prom-client/lib/histogram') as Client['Histogram'];
  const registry = new MadeRegistry();
  const registers = [registry];
  return {
    registry,
    counter: (name, help, labels = []) => new MadeCounter({ name, help, labelNames: [...labels], registers }),
    gauge: (name, help, labels = []) => new MadeGauge({ name, help, labelNames: [...labels], registers }),
    histogram: (name, help, labels = [], buckets = SECONDS) =>
      new MadeHistogram({ name, help, labelNames: [...labels], buckets: [...buckets], registers }),
  };
}

/** For totals that somebody else counts: the counter becomes `value`. */
export function setCounter<L extends string>(
  counter: Counter<L>,
  values: readonly (readonly [labels: Readonly<Partial<Record<L, string>>>, value: number])[],
): void {
  counter.reset();
  for (const [labels, value] of values) counter.inc({ ...labels }, value);
}
