/** LXD or Incus: whether it answers, and whether it can take what we hand it. */
import type { LxdRuntime } from '../container/lxd/runtime.ts';
import { attempt, bad, type Check, good, isRoot } from './check.ts';

export async function runtimeChecks(lxd: LxdRuntime, signal: AbortSignal): Promise<Check[]> {
  const reach = async () => {
    const { name, version } = await lxd.server(signal);
    return good('runtime.lxd', `${name} ${version} at ${await lxd.client.socketPath()}`);
  };
  // Others may not see the socket although it is there.
  const reached = await attempt('runtime.lxd', reach, { ok: isRoot() ? false : 'warn' });
  return reached.ok === true
    ? [reached, await attempt('runtime.idmapped-mounts', () => mapped(lxd, signal))]
    : [reached];
}

async function mapped(lxd: LxdRuntime, signal: AbortSignal): Promise<Check> {
  const { name, version, idmappedMounts } = await lxd.server(signal);
  if (idmappedMounts) return good('runtime.idmapped-mounts', `${name} uses them`);
  return bad(
    'runtime.idmapped-mounts',
    `${name} ${version} reports none`,
    'LXD 4.x with LXC 5 and Linux 5.12, or later; for the snap: snap set lxd shiftfs.enable=false, then restart it',
  );
}
