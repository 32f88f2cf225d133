/** The port for monitors and people, and what is said on it: loaded only where `http.listen` is set. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/schema.ts';
import { explain } from '../errors.ts';
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
  return await listenWhenThere(address, all, options.log);
}

/** At a boot the agent is there before the network: an address that this host does not have yet is waited for, and nothing waits for it. */
async function listenWhenThere(address: string, routes: readonly Route[], log: Log): Promise<AsyncDisposable> {
  const stop = new AbortController();
  const once = async () => {
    const server = await listen({ address, routes });
    log.info('listens for monitors', { url: server.url });
    return server;
  };
  const later = async (): Promise<AsyncDisposable | undefined> => {
    for (;;) {
      await sleep(ADDRESS_MS, undefined, { signal: stop.signal, ref: false }).catch(() => undefined); // only the abort ends it early
      if (stop.signal.aborted) return undefined;
      try {
        return await once();
      } catch (error) {
        if (!isNotThere(error)) log.warn(`nobody listens for monitors: ${explain(error)}`);
      }
    }
  };
  try {
    return await once();
  } catch (error) {
    if (!isNotThere(error)) throw error;
    log.warn('this host does not have the address for monitors yet; it is tried again', { address });
    const waiting = later();
    return {
      async [Symbol.asyncDispose]() {
        stop.abort();
        await (await waiting)?.[Symbol.asyncDispose]();
      },
    };
  }
}

const ADDRESS_MS = 2000;

const isNotThere = (error: unknown): boolean =>
  error instanceof Error &&
  error.cause instanceof Error &&
  'code' in error.cause &&
  error.cause.code === 'EADDRNOTAVAIL';

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
