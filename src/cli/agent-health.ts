/** What an agent, and what a router, needs for its work: the one source of its watchdog, its probes and its metrics. */
import type { Router } from '../bus/router.ts';
import type { BusService } from '../bus/service.ts';
import { explain } from '../errors.ts';
import { Health } from '../metrics/health.ts';
import type { Host } from './assemble.ts';

/** What is asked of a host. */
type Asked = {
  readonly store: Pick<Host['store'], 'failure'>;
  readonly lxd: { readonly client: Pick<Host['lxd']['client'], 'serverPid'> };
};

/** Where an agent is in its life. */
export type Stage = { recovered: boolean; serving: boolean; stopping: boolean };

export function agentHealth(host: Asked, stage: Stage, bus: () => BusService | undefined): Health {
  return new Health([
    {
      name: 'journal',
      vital: true,
      look: () =>
        host.store.failure === undefined
          ? undefined
          : `it cannot be brought to the disk: ${explain(host.store.failure)}`,
    },
    { name: 'recovery', look: () => (stage.recovered ? undefined : 'what the last run left is not ended yet') },
    {
      name: 'runtime',
      look: async signal => {
        await host.lxd.client.serverPid(signal);
        return undefined;
      },
    },
    { name: 'bus', look: () => (stage.serving ? busMissing(bus()) : 'it is not connected yet') },
    { name: 'service', look: () => (stage.stopping ? 'it is stopping' : undefined) },
  ]);
}

/** Where no broker is configured nothing is missing. */
function busMissing(bus: BusService | undefined): string | undefined {
  if (!bus) return undefined;
  const { healthy, listen, publisher, rpc } = bus.status;
  if (healthy) return undefined;
  const missing = listen.filter(l => !l.subscribed).map(l => `not subscribed to queue "${l.queue}"`);
  if (!publisher.ready) missing.push('results cannot be told');
  if (rpc && !rpc.subscribed) missing.push('not subscribed for RPC');
  return missing.join(', ');
}

export function routerHealth(router: Router, stage: Pick<Stage, 'stopping'>): Health {
  return new Health([
    {
      name: 'bus',
      look: () => {
        const away = router.status.listen.filter(l => !l.subscribed);
        return away.length === 0
          ? undefined
          : `not subscribed to queue "${away[0]?.queue}" on ${away.length} of ${router.status.listen.length} brokers`;
      },
    },
    { name: 'service', look: () => (stage.stopping ? 'it is stopping' : undefined) },
  ]);
}
