/** The command line and the agent, as processes of their own, as an operator runs them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { openSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const READY_MS = 30_000;

/** stdout of `shiftvol ...`, read as JSON. @throws with its own words where it fails */
export async function shiftvol(config: string, args: readonly string[], signal: AbortSignal): Promise<unknown> {
  const stdout = await output(process.execPath, [MAIN, '--config', config, '--json', ...args], signal);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? 'null');
}

/** stdout of a program, with our own left out of its way. @throws with its last words where it fails */
export async function output(file: string, args: readonly string[], signal: AbortSignal): Promise<string> {
  signal.throwIfAborted();
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = () => void child.kill('SIGTERM');
  signal.addEventListener('abort', kill, { once: true });
  try {
    const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exitOf(child)]);
    signal.throwIfAborted();
    if (code === 0) return stdout;
    throw new Error(`${file} ${args.join(' ')} ended with ${code}: ${(stderr || stdout).trim()}`);
  } finally {
    signal.removeEventListener('abort', kill);
  }
}

export type Agent = AsyncDisposable & { readonly pid: number };

/** `shiftvol serve`, subscribed and bound to the exchange. It ends when we do, however that happens. */
export async function startAgent(
  options: { readonly config: string; readonly socket: string; readonly log: string; readonly exchange: string },
  signal: AbortSignal,
): Promise<Agent> {
  const log = openSync(options.log, 'a', 0o600);
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', process.execPath, MAIN, 'serve', '--config', options.config], {
    stdio: ['ignore', log, log],
  });
  const agent: Agent = {
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await exitOf(child);
    },
  };
  const deadline = Date.now() + READY_MS;
  while (!(await isReady(options.socket, options.exchange))) {
    const ended = child.exitCode !== null || child.signalCode !== null;
    if (ended || Date.now() > deadline || signal.aborted) {
      await agent[Symbol.asyncDispose]();
      signal.throwIfAborted();
      throw new Error(`The agent did not become ready: ${readFileSync(options.log, 'utf8').slice(-2000)}`);
    }
    await sleep(20);
  }
  return agent;
}

type Health = {
  readonly result?: {
    readonly bus: {
      readonly healthy: boolean;
      readonly listen: readonly { readonly exchanges: { [name: string]: string } }[];
    } | null;
  };
};

async function isReady(socketPath: string, exchange: string): Promise<boolean> {
  const answer = await new Promise<Health>(resolve => {
    const asked = request({ socketPath, path: '/v1/health' }, response => {
      text(response).then(
        body => resolve(JSON.parse(body)),
        () => resolve({}),
      );
    });
    asked.once('error', () => resolve({})); // not there yet
    asked.end();
  });
  const bus = answer.result?.bus;
  return bus?.healthy === true && bus.listen.every(l => l.exchanges[exchange] === 'bound');
}

function exitOf(child: ChildProcess): Promise<number> {
  const code = () => child.exitCode ?? 128;
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(code());
  return new Promise((resolve, reject) => {
    child.once('exit', () => resolve(code()));
    child.once('error', reject);
  });
}
