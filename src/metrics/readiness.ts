/** Health's metrics. */
import type { Metrics } from './client.ts';
import type { Health } from './health.ts';

/** Returns what brings them up to date. */
export function healthMetrics(metrics: Metrics, health: Health): () => Promise<void> {
  const ready = metrics.gauge('shiftvol_ready', 'Whether all is there that the work needs: 1, else 0.');
  const parts = metrics.gauge('shiftvol_part_ok', 'What the work needs, each: 1 where it is there, else 0.', ['part']);
  return async () => {
    const readiness = await health.ready();
    ready.set(readiness.ready ? 1 : 0);
    const missing = new Set(readiness.missing.map(m => m.part));
    for (const part of health.parts) parts.set({ part }, missing.has(part) ? 0 : 1);
  };
}
