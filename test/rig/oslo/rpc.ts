/** Python at both ends of a remote call: a client that calls us, and a server to compare ours with. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const PYTHON = '/usr/bin/python3';
const script = (name: string) => fileURLToPath(new URL(name, import.meta.url));

export type Ask = {
  readonly method: string;
  readonly args?: object;
  readonly kind?: 'call' | 'cast' | 'fanout';
  readonly exchange?: string;
  readonly topic?: string;
  readonly server?: string;
  readonly namespace?: string;
  readonly version?: string;
  /** Seconds; default 20. */
  readonly timeout?: number;
  /** call_monitor_timeout, in seconds. */
  readonly monitor?: number;
  readonly context?: object;
  /** The class of an `except` clause, with its module. */
  readonly except?: string;
  readonly repeat?: number;
};
export type Answer = {
  readonly result?: unknown;
  /** Of a repeated call, each time. */
  readonly ms?: readonly number[];
  /** `module.Class` as the caller gets it. */
  readonly error?: string;
  readonly bases?: readonly string[];
  readonly text?: string;
  /** By the `except` clause. */
  readonly caught?: boolean;
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly remote?: { readonly type: string; readonly value: string; readonly traceback: readonly string[] };
};

export type RpcClient = AsyncDisposable & {
  /** Many at a time. What the call raises is in the answer. */
  ask(what: Ask): Promise<Answer>;
  /** Dies as a process does, with its reply queue left behind. */
  kill(): Promise<void>;
};

/** `exmods`: modules whose exceptions it rebuilds. Ready when this resolves; about 1 s. */
export async function rpcClient(url: string, exmods: readonly string[] = []): Promise<RpcClient> {
  const args = [script('rpc_client.py'), '--url', url, ...exmods.flatMap(m => ['--exmod', m])];
  const child = spawn(PYTHON, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.on('error', () => undefined); // killed by the test
  const waiting = new Map<number, PromiseWithResolvers<Answer>>();
  const ready = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on('line', line => {
    const { ready: isReady, id, ...answer } = JSON.parse(line);
    if (isReady) ready.resolve();
    else waiting.get(id)?.resolve(answer);
    waiting.delete(id);
  });
  child.once('exit', () => {
    const gone = new Error('the client ended');
    ready.reject(gone);
    for (const { reject } of waiting.values()) reject(gone);
  });
  await ready.promise;
  let last = 0;
  return {
    ask(what) {
      const id = ++last;
      const answer = Promise.withResolvers<Answer>();
      answer.promise.catch(() => undefined); // told to who awaits it
      waiting.set(id, answer);
      child.stdin.write(`${JSON.stringify({ id, ...what })}\n`);
      return answer.promise;
    },
    kill: () => ended(child, 'SIGKILL'),
    // It would wait for the calls that are under way.
    [Symbol.asyncDispose]: () => ended(child, 'SIGKILL'),
  };
}

/** Python's own server: namespace baseapi, ping. */
export async function rpcServer(url: string, topic: string): Promise<AsyncDisposable> {
  const args = [script('rpc_server.py'), '--url', url, '--topic', topic];
  const child = spawn(PYTHON, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ready = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).once('line', () => ready.resolve());
  child.once('exit', () => ready.reject(new Error('the server ended before it was ready')));
  await ready.promise;
  return { [Symbol.asyncDispose]: () => ended(child, 'SIGKILL') };
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise(resolve => child.once('exit', resolve));
  child.kill(signal);
  await exit;
}
