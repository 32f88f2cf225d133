import type { Config, Lxd } from '../rig/lxd.ts';

/**
 * Creates and starts many. Created one after the other: LXD takes an instance that is being created for one with the base 0, and gives
 * the next the ids from 65536 on, which are nobody's.
 */
export async function launchAll(
  lxd: Lxd,
  names: readonly string[],
  config: (name: string) => Config = () => ({}),
): Promise<void> {
  for (const name of names) await lxd.create(name, config(name));
  const waiting = [...names];
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) await lxd.start(name);
  };
  await Promise.all(Array.from({ length: 4 }, worker));
}
