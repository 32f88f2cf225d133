/** What Nova's driver needs of this host, where it is on; and the cloud, where one is configured. */
import { rpcUrl } from '../bus/urls.ts';
import type { Config } from '../config/schema.ts';
import type { LxdClient } from '../container/lxd/client.ts';
import { findRootPool, ROOT_POOL } from '../container/lxd/root-pool.ts';
import { abandonedImports } from '../storage/saved.ts';
import { attempt, bad, type Check, good, isRoot, notTried, warn } from './check.ts';
import type { AgentHealth } from './journal.ts';

/** The cloud as the agent would use it. */
export type CloudLook = {
  isConfigured(): Promise<boolean>;
  /** Logs in, and asks the service for one of its things. @throws what stands in the way */
  ask(service: 'image' | 'volumev3', signal: AbortSignal): Promise<void>;
};

const SERVICES = { image: 'Glance', volumev3: 'Cinder' } as const;

export async function cloudChecks(
  { nova }: Pick<Config, 'nova'>,
  cloud: CloudLook,
  signal: AbortSignal,
): Promise<Check[]> {
  const otherwise = { ok: nova.enabled ? false : 'warn' } as const;
  let isThere = false;
  const configured = await attempt(
    'openstack.configured',
    async () => {
      isThere = await cloud.isConfigured();
      if (isThere) return good('openstack.configured', 'it is described');
      if (!nova.enabled) return good('openstack.configured', 'none: no images of Glance, no volumes of Cinder by name');
      return bad(
        'openstack.configured',
        'Nova’s driver is on, and no cloud is described: no image can be fetched',
        'a clouds.yaml, or OS_* variables, for the agent; see openstack in plugin.yaml',
      );
    },
    otherwise,
  );
  if (!isThere) return [configured];
  const asked = (['image', 'volumev3'] as const).map(service =>
    attempt(
      `openstack.${service}`,
      async () => {
        await cloud.ask(service, signal);
        return good(`openstack.${service}`, `${SERVICES[service]} answers`);
      },
      otherwise,
    ),
  );
  return [configured, ...(await Promise.all(asked))];
}

/** Nothing where nobody calls. `agent`: undefined where none runs, which is told elsewhere. */
export function rpcChecks(config: Config, agent: AgentHealth): Check[] {
  const check = 'agent.rpc';
  const isCalled = rpcUrl(config) !== undefined;
  if (config.nova.enabled && !isCalled)
    return [bad(check, 'Nova’s driver is on, and nobody can call it: RPC has no URL', 'rpc.url, or bus.url')];
  const rpc = agent?.bus?.rpc;
  if (!isCalled || !agent) return [];
  if (rpc?.subscribed === true) return [good(check, 'it can be called')];
  return [warn(check, 'the agent is not subscribed to its RPC queues', 'see its log, and the checks of the bus')];
}

/** LXD's own directories of containers that we make. */
export async function rootPoolCheck({ nova }: Config, client: LxdClient, signal: AbortSignal): Promise<Check[]> {
  if (!nova.enabled) return [];
  const check = 'runtime.root-pool';
  const look = async () => {
    const pool = await findRootPool(client, signal);
    if (pool === undefined) return good(check, `"${ROOT_POOL}" is made with the first instance`);
    if (pool.driver === 'dir') return good(check, `"${ROOT_POOL}" at ${pool.source}`);
    const remedy = 'remove that pool, or rename it; shiftvol makes its own';
    return bad(check, `the storage pool "${ROOT_POOL}" has the driver "${pool.driver}", "dir" is needed`, remedy);
  };
  return [await attempt(check, look)];
}

export async function importLeftovers({ poolDir }: Pick<Config, 'poolDir'>): Promise<Check> {
  const check = 'journal.stray-imports';
  if (!isRoot()) return notTried(check);
  const look = () => {
    const left = abandonedImports({ poolDir });
    if (left.length === 0) return good(check, 'none');
    const what = left.map(({ of, name }) => `${name} of ${of}`).join(', ');
    return warn(check, `saved for imports that were killed: ${what}`, 'shiftvol recover');
  };
  return await attempt(check, look, { ok: 'warn' });
}
