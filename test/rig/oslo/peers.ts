/** Python's oslo.messaging at the other end of the wire. Needs the Python that has it: Debian's, with python3-oslo.messaging. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const PYTHON = '/usr/bin/python3';
const script = (name: string) => fileURLToPath(new URL(name, import.meta.url));

export type Note = {
  readonly event_type: string;
  readonly publisher_id: string;
  readonly priority?: string;
  readonly payload: unknown;
  readonly exchange?: string;
  readonly topic?: string;
  readonly context?: object;
};

/** Sends them with the Notifier and waits until it says that the broker has them. */
export async function emit(
  url: string,
  notes: readonly Note[],
  options: { rate?: number } = {},
): Promise<{ sent: number; failed: number }> {
  const child = spawn(PYTHON, [script('emit.py'), '--url', url, '--rate', String(options.rate ?? 0)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end(notes.map(n => `${JSON.stringify(n)}\n`).join(''));
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) lines.push(line);
  await exited(child);
  return JSON.parse(lines.at(-1) ?? '{}');
}

export type Heard = {
  readonly priority: string;
  readonly event_type: string;
  readonly publisher_id: string;
  readonly payload: Readonly<Record<string, unknown>>;
  readonly metadata: { readonly message_id: string; readonly timestamp: string };
  readonly context: Readonly<Record<string, unknown>>;
};

/** A listener that is ready when this resolves; `heard` resolves with `count` messages, or with what there was after `seconds`. */
export async function listen(
  url: string,
  topics: readonly string[],
  options: { count: number; seconds?: number; pool?: string },
): Promise<AsyncDisposable & { readonly heard: Promise<readonly Heard[]> }> {
  const args = ['--url', url, ...topics.flatMap(t => ['--topic', t]), '--count', String(options.count)];
  args.push('--seconds', String(options.seconds ?? 30), '--pool', options.pool ?? 'shiftvol-test-reader');
  const child = spawn(PYTHON, [script('listen.py'), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ready = Promise.withResolvers<void>();
  const heard = (async () => {
    const messages: Heard[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      const value = JSON.parse(line);
      if ('ready' in value) ready.resolve();
      else messages.push(value);
    }
    ready.reject(new Error('the listener ended before it was ready'));
    await exited(child);
    return messages;
  })();
  await ready.promise;
  return {
    heard,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null) child.kill('SIGKILL');
      await heard;
    },
  };
}

function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise(resolve => child.once('exit', () => resolve()));
}
