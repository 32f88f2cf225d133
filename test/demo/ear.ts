/** A Python oslo.messaging listener that stays: what anybody on the bus hears, in its order. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Heard } from '../rig/oslo/peers.ts';

const LISTEN = fileURLToPath(new URL('../rig/oslo/listen.py', import.meta.url));
const WAIT_MS = 60_000;

export type Ear = AsyncDisposable & {
  /** What was heard since the last call, up to and with the first message that `is` the one; what came for nobody stays out. */
  until(is: (heard: Heard) => boolean, signal: AbortSignal): Promise<readonly Heard[]>;
};

/** Listens on each EXCHANGE/TOPIC with a queue of its own, so that nothing is taken from the agent. Ready when this resolves. */
export async function openEar(url: string, topics: readonly string[]): Promise<Ear> {
  const args = ['/usr/bin/python3', LISTEN, '--url', url, '--pool', 'shiftvol-demo-ear', '--seconds', '86400'];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...args, ...topics.flatMap(t => ['--topic', t])], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()));
  const ready = Promise.withResolvers<void>();
  const heard: Heard[] = [];
  let wake: () => void = () => {};
  const lines = createInterface({ input: child.stdout });
  lines.on('line', line => {
    const value = JSON.parse(line);
    if ('ready' in value) ready.resolve();
    else heard.push(value);
    wake();
  });
  lines.once('close', () => ready.reject(new Error('the Python listener ended before it was ready')));
  ready.promise.catch(() => {});
  await ready.promise;
  return {
    async until(is, signal) {
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(WAIT_MS)]);
      for (;;) {
        const at = heard.findIndex(is);
        if (at >= 0) return heard.splice(0, at + 1);
        deadline.throwIfAborted();
        await new Promise<void>(resolve => {
          wake = resolve;
          deadline.addEventListener('abort', () => resolve(), { once: true });
        });
      }
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null) child.kill('SIGKILL');
      await exited;
    },
  };
}
