/** The router's side of the port for monitors: loaded only where `http.listen` is set. */
import type { Router } from '../bus/router.ts';
import type { Config } from '../config/schema.ts';
import type { Log } from '../log/log.ts';
import type { Metrics } from '../metrics/client.ts';
import type { Health } from '../metrics/health.ts';
import { routerMetrics } from '../metrics/router.ts';
import { openMonitor, type Update } from './monitor.ts';

/** @throws SV_CONFIG: it cannot be listened there */
export async function monitorRouter(
  config: Config,
  router: Router,
  health: Health,
  log: Log,
): Promise<AsyncDisposable> {
  await using resources = new AsyncDisposableStack();
  const fill = (metrics: Metrics): readonly Update[] => {
    const counted = resources.use(routerMetrics(metrics, () => router.status));
    return [() => counted.update()];
  };
  resources.use(await openMonitor({ config, health, log, role: 'router', fill }));
  return resources.move();
}
