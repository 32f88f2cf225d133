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
    const ended = once(this.#child, 'exit').then(() => Promise.reject(new Error('the peer ended')));
    ended.catch(() => undefined); // at the end
    this.#child.send(order);
    const [told] = await Promise.race([once(this.#child, 'message'), ended]);
    return told;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.disconnect(); // it ends by itself then
    await ended;
  }
}
