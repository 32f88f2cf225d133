/** The port for monitors and people, and what is said on it: loaded only where `http.listen` is set. */
import { readFileSync } from 'node:fs';
import type { Config } from '../config/schema.ts';
import { listen, type Route } from '../http/listener.ts';
import type { Log } from '../log/log.ts';
import { type Metrics, newMetrics } from '../metrics/client.ts';
import { metricsRoute } from '../metrics/exposition.ts';
import type { Health } from '../metrics/health.ts';
import { healthRoutes } from '../metrics/health-routes.ts';
import { processMetrics } from '../metrics/process.ts';
import { healthMetrics } from '../metrics/readiness.ts';

export type Update = () => void | Promise<void>;

export type MonitorOptions = {
  readonly config: Config;
  readonly role: 'agent' | 'router';
  readonly health: Health;
  readonly log: Log;
  /** Makes the metrics of this role, where metrics are wanted. Returns what brings them up to date. */
  readonly fill: (metrics: Metrics) => readonly Update[];
  readonly routes?: readonly Route[];
};

/** @throws SV_CONFIG: it cannot be listened there */
export async function openMonitor({ config, routes = [], ...options }: MonitorOptions): Promise<AsyncDisposable> {
  const { listen: address, metrics } = config.http;
  if (address === null) return { [Symbol.asyncDispose]: async () => undefined };
  const all = [...healthRoutes(options.health), ...(metrics ? [metricsOf(options)] : []), ...routes];
  const server = await listen({ address, routes: all });
  options.log.info('listens for monitors', { url: server.url, metrics });
  return server;
}

function metricsOf({ role, health, fill }: Pick<MonitorOptions, 'role' | 'health' | 'fill'>): Route {
  const metrics = newMetrics();
  const updates = [
    processMetrics(metrics, { version: version(), role }),
    healthMetrics(metrics, health),
    ...fill(metrics),
  ];
  return metricsRoute(metrics, async () => {
    for (const update of updates) await update();
  });
}

function version(): string {
  return String(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version);
}
