/** The agent's side of the port for monitors: loaded only where `http.listen` is set. */
import type { BusService } from '../bus/service.ts';
import type { Config } from '../config/schema.ts';
import type { Route } from '../http/listener.ts';
import type { IdRange } from '../idmap/idmap.ts';
import { intersect } from '../idmap/range.ts';
import type { Log } from '../log/log.ts';
import { type AgentParts, agentMetrics } from '../metrics/agent.ts';
import { busMetrics } from '../metrics/bus.ts';
import type { Metrics } from '../metrics/client.ts';
import type { Health } from '../metrics/health.ts';
import { countRequests } from '../metrics/requests.ts';
import { countEngine } from '../metrics/steps.ts';
import { poolRoom } from '../storage/pool-status.ts';
import { type Host, readPool } from './assemble.ts';
import { openMonitor, type Update } from './monitor.ts';

export type AgentMonitor = {
  readonly config: Config;
  readonly host: Host;
  readonly health: Health;
  readonly bus: () => BusService | undefined;
  /** What others hang in: the page. */
  readonly routes: readonly Route[];
  readonly log: Log;
};

/** @throws SV_CONFIG: it cannot be listened there */
export async function monitorAgent(monitor: AgentMonitor): Promise<AsyncDisposable> {
  await using resources = new AsyncDisposableStack();
  const fill = (metrics: Metrics): readonly Update[] => {
    resources.use(countEngine(metrics));
    const requests = resources.use(countRequests(metrics));
    return [
      agentMetrics(metrics, agentParts(monitor)),
      busMetrics(metrics, () => monitor.bus()?.status),
      () => requests.update(),
    ];
  };
  resources.use(await openMonitor({ ...monitor, role: 'agent', fill }));
  return resources.move();
}

function agentParts({ config, host }: AgentMonitor): AgentParts {
  return {
    census: () => host.store.census(),
    spares: () => host.spares?.size ?? 0,
    canSync: () => host.store.failure === undefined,
    room: () => poolRoom(config),
    recovered: () => host.engine.lastRecovery,
    ids: async signal => {
      const [{ uid }, used] = await Promise.all([readPool(config.subidOwner), host.engine.usedIds(signal)]);
      const uids = used.filter(range => range.kind === 'uid');
      return { size: sum(uid), used: sum(intersect(uid, uids)) };
    },
  };
}

const sum = (ranges: readonly IdRange[]): number => ranges.reduce((all, { count }) => all + count, 0);
