/** Processes of their own that do as they are told: see rpc-peer.ts, which is what they run. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** `declare`: the queue of notifications. */
export type Order =
  | { readonly do: 'declare' }
  | { readonly do: 'consume'; readonly count: number }
  | { readonly do: 'serve' }
  | { readonly do: 'stop' };
export type Told = { readonly done: Order['do']; readonly seconds?: number };
export const OURS = { queue: 'shiftvol.bench', topic: 'shiftvol' } as const;
export const BARE = { queue: 'bare', topic: 'bare' } as const;

const PEER = fileURLToPath(new URL('./rpc-peer.ts', import.meta.url));

export class Peer implements AsyncDisposable {
  readonly #child: ChildProcess;

  constructor(url: string, kind: 'ours' | 'bare') {
    this.#child = fork(PEER, [url, kind], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  }

  async obey(order: Order): Promise<Told> {
    const { promise, resolve, reject } = Promise.withResolvers<Told>();
    const ended = () => reject(new Error('the peer ended'));
    const told = (what: unknown) => resolve(what as Told); // it comes from rpc-peer.ts
    this.#child.once('message', told).once('exit', ended).send(order);
    try {
      return await promise;
    } finally {
      this.#child.off('message', told).off('exit', ended);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.disconnect(); // it ends by itself then
    await ended;
  }
}
