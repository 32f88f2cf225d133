/** The agent as an operator runs it: a process of its own, asked over its socket. */
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { Agent as HttpAgent, request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Command } from '../../src/engine/model.ts';
import type { ApiRequest } from '../../src/http/api.ts';
import { run } from '../rig/pool.ts';
import type { Workspace } from './workspace.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const START_TIMEOUT_MS = 20_000;
/** USER_HZ, which is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

export class Agent implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #socketPath: string;
  readonly #http = new HttpAgent({ keepAlive: true, maxSockets: 8 });

  private constructor(child: ChildProcess, socketPath: string) {
    this.#child = child;
    this.#socketPath = socketPath;
  }

  /**
   * From a build of its own, as it is released: what translates TypeScript takes 30 MiB that no installation has.
   * Ready when it answers; with a bus, when it is subscribed.
   * @throws where it is not in time
   */
  static async start(
    workspace: Workspace,
    at: { configFile: string; runDir: string },
    options: { bus: boolean },
  ): Promise<Agent> {
    const { configFile, runDir } = at;
    const args = [build(workspace), 'serve', '--config', configFile, ...(options.bus ? [] : ['--no-bus'])];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    child.stderr.on('data', chunk => {
      log = (log + chunk).slice(-4000);
    });
    const agent = new Agent(child, join(runDir, 'agent.sock'));
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!(await agent.#ready(options.bus))) {
      if (child.exitCode === null && performance.now() < deadline) await sleep(50);
      else {
        child.kill('SIGKILL');
        throw new Error(`The agent did not get ready: ${log}`);
      }
    }
    return agent;
  }

  async execute(command: Command): Promise<void> {
    await this.call({ command: 'execute', body: command });
  }

  async call(asked: ApiRequest): Promise<unknown> {
    const reply = await this.#send('POST', '/v1/call', JSON.stringify(asked));
    if (!isRecord(reply) || !('result' in reply)) throw new Error(`The agent says ${JSON.stringify(reply)}`);
    return reply['result'];
  }

  /** What it has in memory, in MiB. */
  get residentMiB(): number {
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(this.#proc('status'))?.[1]) / 1024;
  }

  get descriptors(): number {
    return readdirSync(`/proc/${this.#child.pid}/fd`).length;
  }

  /** User and system time since its start, in seconds. @see proc_pid_stat(5), fields 14 and 15 */
  get cpuSeconds(): number {
    const fields = this.#proc('stat')
      .replace(/^.*\) /, '')
      .split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#http.destroy();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise(resolve => this.#child.once('exit', resolve));
    this.#child.kill('SIGTERM');
    await ended;
  }

  async #ready(bus: boolean): Promise<boolean> {
    try {
      const health = JSON.stringify(await this.#send('GET', '/v1/health', ''));
      return !bus || health.includes('"healthy":true');
    } catch {
      return false; // not listening yet
    }
  }

  #proc(file: string): string {
    return readFileSync(`/proc/${this.#child.pid}/${file}`, 'utf8');
  }

  async #send(method: string, path: string, body: string): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const call = request({ socketPath: this.#socketPath, agent: this.#http, method, path }, response => {
      text(response)
        .then(answer => resolve(JSON.parse(answer)))
        .catch(reject);
    });
    call.once('error', reject).end(body);
    return await promise;
  }
}

/** `npm run build` into the workspace, once a run. Returns the program. */
function build({ dir }: Workspace): string {
  const release = join(dir, 'release');
  if (!existsSync(release)) {
    mkdirSync(release);
    for (const file of ['package.json', 'plugin.yaml']) copyFileSync(join(ROOT, file), join(release, file));
    symlinkSync(join(ROOT, 'node_modules'), join(release, 'node_modules'));
    const config = join(ROOT, 'tsconfig.build.json');
    run(join(ROOT, 'node_modules/.bin/tsc'), '-p', config, '--outDir', join(release, 'dist'));
  }
  return join(release, 'dist/cli/main.js');
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
