import { setTimeout as sleep } from 'node:timers/promises';
import { LxdError } from './lxd-error.ts';

export type Patience = {
  /** For a server that does not answer, as during its upgrade. */
  readonly unreachableMs: number;
  /** For an instance that is being started, stopped or changed. LXD's own locks end after 30 s. */
  readonly busyMs: number;
};
export const PATIENCE: Patience = { unreachableMs: 5000, busyMs: 40_000 };

/** LXD has no code for these, so this is the one place that reads its words. The second comes when it waited for another's change. */
const BUSY = /\bbusy running an? |non-reusable operation/;

type Trouble = 'changed' | 'busy' | 'unreachable';

/**
 * Does `attempt` again for as long as what failed goes away by itself: another one's change came first, the instance is busy, the
 * server is being restarted. `attempt` looks at the present state first, so that doing it twice is one effect.
 */
export async function patiently<T>(attempt: () => Promise<T>, patience: Patience, signal?: AbortSignal): Promise<T> {
  const started = performance.now();
  for (let tries = 0; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      const trouble = troubleOf(error);
      const limit = trouble === 'unreachable' ? patience.unreachableMs : patience.busyMs;
      if (trouble === undefined || performance.now() - started > limit) throw error;
      const pauseMs = trouble === 'changed' || tries === 0 ? 5 : Math.min(250, 10 * 2 ** tries);
      // With jitter: those who were refused together come back one by one.
      await pause(pauseMs * (0.5 + Math.random()), signal);
    }
  }
}

function troubleOf(error: unknown): Trouble | undefined {
  if (!(error instanceof LxdError)) return undefined;
  if (error.status === 412) return 'changed';
  if (error.status === 0 || error.status === 503) return 'unreachable';
  return BUSY.test(error.message) ? 'busy' : undefined;
}

async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, signal ? { signal } : {});
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
