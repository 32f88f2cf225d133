/**
 * Saves, restores or extends in an engine that dies by SIGKILL at one named boundary. argv: `PART:METHOD:before|after[:guard]` with `guard`
 * where the guard is to die first, then what to do: `create|restore|extend INSTANCE TARGET NAME|BYTES`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { assemble } from '../../src/cli/assemble.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { EngineDeps } from '../../src/engine/deps.ts';
import type { Frozen } from '../../src/engine/volume-ports.ts';
import { explain } from '../../src/errors.ts';

const [boundary = '', action = '', ref = '', target = '', what = ''] = process.argv.slice(2);
const [part, method, when, guard] = boundary.split(':');
let frozen: Frozen | undefined;

async function die(): Promise<never> {
  if (guard === 'guard' && frozen && 'guardPid' in frozen && typeof frozen.guardPid === 'number') {
    // In this order and without a pause, else one of them would still see to it.
    process.kill(frozen.guardPid, 'SIGKILL');
  }
  process.kill(process.pid, 'SIGKILL');
  await sleep(60_000);
  throw new Error('still alive');
}

/** Every method as it is, but for the one at whose boundary we die. */
function dying<T extends object>(name: string, whole: T): T {
  return new Proxy(whole, {
    get(of, key) {
      const value: unknown = Reflect.get(of, key);
      if (typeof value !== 'function') return value;
      return async (...args: readonly unknown[]) => {
        const here = part === name && method === key;
        if (here && when === 'before') await die();
        const result: unknown = await Reflect.apply(value, of, args);
        if (key === 'freeze') frozen = result as Frozen;
        if (here) await die();
        return result;
      };
    },
  });
}

const change = (deps: EngineDeps): EngineDeps => {
  const { find, read } = deps.saved; // not asynchronous
  return {
    ...deps,
    // Spread, each method is read through the proxy once, and wrapped.
    saved: { ...dying('saved', deps.saved), find, read },
    freezer: dying('freezer', deps.freezer),
    mounter: dying('mounter', deps.mounter),
  };
};

await using host = await assemble(loadConfig(), { outbox: false, change });
const { signal } = new AbortController();
const place = { instance: { ref }, target };
try {
  if (action === 'create') await host.engine.snapshots.create(place, what, { signal });
  else if (action === 'restore') await host.engine.snapshots.restore(place, what, signal);
  else await host.engine.execute({ action: 'extend', instance: { ref }, target, sizeBytes: Number(what) }, signal);
  console.log('done');
} catch (error) {
  console.log(`failed: ${explain(error)}`);
}
