import { Router } from '../bus/router.ts';
import { loadConfig } from '../config/load.ts';
import { ShiftvolError } from '../errors.ts';
import { createLog, logOptions } from '../log/log.ts';
import { routerHealth } from './agent-health.ts';
import type { GlobalOptions } from './command.ts';
import { supervisor } from './supervisor.ts';

const REPORT_MS = 60_000;

/** Runs until SIGTERM or SIGINT. @throws SV_CONFIG: no broker is configured */
export async function runRouter(options: GlobalOptions): Promise<void> {
  const config = loadConfig(options);
  if (config.bus.listen.length === 0)
    throw new ShiftvolError('SV_CONFIG', 'Cannot route: no transport URL is configured', {
      field: 'bus.listen',
      remedy: 'set bus.listen, or $SHIFTVOL_TRANSPORT_URL',
    });
  const log = createLog(logOptions(config.log, options));
  const { promise: told, resolve: stop } = Promise.withResolvers<NodeJS.Signals>();
  process.once('SIGTERM', stop).once('SIGINT', stop);
  await using router = new Router(config, log);
  const stage = { stopping: false };
  const health = routerHealth(router, stage);
  await using _monitor =
    config.http.listen === null
      ? undefined
      : await (await import('./monitor-router.ts')).monitorRouter(config, router, health, log);
  const tell = () => {
    for (const { queue, subscribed, counters } of router.status.listen) {
      const { ignored, ...counts } = counters;
      const skipped = Object.values(ignored).reduce((sum, n) => sum + n, 0);
      log.info('routing', { queue, subscribed, ...counts, ignored: skipped });
    }
  };
  using _timer = {
    timer: setInterval(tell, REPORT_MS),
    [Symbol.dispose]() {
      clearInterval(this.timer);
    },
  };
  using manager = await supervisor(log);
  manager.ready(`exchange ${config.bus.route.exchange}`, () => health.alive());
  log.info('ready', { exchange: config.bus.route.exchange, queue: config.bus.route.queue });
  log.info(`stopping: ${await told}`);
  manager.stopping();
  stage.stopping = true;
  health.forget();
  tell();
}
