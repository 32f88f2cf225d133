/** Waiting with an end: for a condition that the kernel brings about, and for calls that cannot be cut. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ShiftvolError } from '../../errors.ts';

export type Waiting = {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** `a device of volume "x"`: what did not come. */
  readonly what: string;
};

/** Asks again, at growing intervals, until there is an answer. @throws SV_TIMEOUT */
export async function waitFor<T>(ask: () => T | undefined | Promise<T | undefined>, waiting: Waiting): Promise<T> {
  const { timeoutMs, signal, what } = waiting;
  const deadline = performance.now() + timeoutMs;
  for (let pauseMs = 2; ; pauseMs = Math.min(pauseMs * 2, 250)) {
    signal?.throwIfAborted();
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() >= deadline)
      throw new ShiftvolError('SV_TIMEOUT', `Cannot find ${what}: it did not come within ${timeoutMs / 1000} s`);
    await sleep(pauseMs, undefined, signal ? { signal } : {});
  }
}

/** The same, where "not there in the end" is an answer. */
export async function waitUntil(
  is: () => boolean | Promise<boolean>,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  for (let pauseMs = 2; ; pauseMs = Math.min(pauseMs * 2, 250)) {
    signal?.throwIfAborted();
    if (await is()) return true;
    if (performance.now() >= deadline) return false;
    await sleep(pauseMs, undefined, signal ? { signal } : {});
  }
}

/** The result of `work`, or no longer waited for it: what the kernel keeps waiting cannot be cut. @throws SV_TIMEOUT */
export async function within<T>(
  timeoutMs: number,
  signal: AbortSignal | undefined,
  what: string,
  work: Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  work.catch(() => undefined);
  const over = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])]);
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = (): void =>
    reject(
      signal?.aborted
        ? signal.reason
        : new ShiftvolError('SV_TIMEOUT', `Cannot ${what}: no answer within ${timeoutMs / 1000} s`, {
            remedy: 'see whether the server answers',
          }),
    );
  over.addEventListener('abort', stop, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    over.removeEventListener('abort', stop);
  }
}
