/**
 * Processes that outlive us, so that a cloud can be left running and be found again: each in a session of its own, known by its id and
 * its start time in `run/NAME`, with its output in `log/NAME.log`.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export type Program = {
  readonly name: string;
  readonly argv: readonly [string, ...string[]];
  readonly env?: Readonly<Record<string, string>>;
};

const BASE_ENV = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C.UTF-8',
  PYTHONWARNINGS: 'ignore',
  PYTHONDONTWRITEBYTECODE: '1',
};

export class Processes {
  readonly #run: string;
  readonly #log: string;

  constructor(directories: { readonly run: string; readonly log: string }) {
    this.#run = directories.run;
    this.#log = directories.log;
  }

  /** Runs already is success. */
  start({ name, argv: [file, ...args], env }: Program): void {
    if (this.pid(name) !== undefined) return;
    const log = openSync(join(this.#log, `${name}.log`), 'a');
    const child = spawn(file, args, { env: { ...BASE_ENV, ...env }, stdio: ['ignore', log, log], detached: true });
    closeSync(log);
    child.once('error', () => {}); // has no pid then
    child.unref();
    if (child.pid === undefined) throw new Error(`Cannot start ${name}: ${file} is not there`);
    writeFileSync(join(this.#run, name), `${child.pid} ${startTime(child.pid)}`);
  }

  /** Undefined: does not run, or what has its id now is another process. */
  pid(name: string): number | undefined {
    const file = join(this.#run, name);
    if (!existsSync(file)) return undefined;
    const [pid, started] = readFileSync(file, 'utf8').split(' ');
    return started !== '' && startTime(Number(pid)) === started ? Number(pid) : undefined;
  }

  names(): readonly string[] {
    return readdirSync(this.#run);
  }

  /** SIGTERM, and SIGKILL to all of its session's group after the time given; `kill`: at once. Stopped already is success. */
  async stop(name: string, options: { readonly timeoutMs?: number; readonly kill?: boolean } = {}): Promise<void> {
    const pid = this.pid(name);
    if (pid !== undefined && !options.kill) {
      process.kill(pid, 'SIGTERM');
      const deadline = Date.now() + (options.timeoutMs ?? 10_000);
      while (this.pid(name) !== undefined && Date.now() < deadline) await sleep(50);
    }
    if (pid !== undefined) signalGroup(pid, 'SIGKILL');
    while (this.pid(name) !== undefined) await sleep(10);
    rmSync(join(this.#run, name), { force: true });
  }

  /** The end of what it wrote. */
  log(name: string, bytes = 3000): string {
    const file = join(this.#log, `${name}.log`);
    return existsSync(file) ? readFileSync(file, 'utf8').slice(-bytes) : '';
  }

  /** @throws with the end of its log, where it has ended or was not ready in time */
  async until(name: string, ready: () => Promise<boolean>, timeoutMs = 90_000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!(await ready())) {
      if (this.pid(name) === undefined) throw new Error(`${name} has ended:\n${this.log(name)}`);
      if (Date.now() > deadline) throw new Error(`${name} is not ready after ${timeoutMs} ms:\n${this.log(name)}`);
      await sleep(100);
    }
  }
}

/** Something listens on this port of the loopback address. */
export function listens(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = createConnection({ port, host: '127.0.0.1' });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** Of /proc/PID/stat, in clock ticks since boot; empty where it has ended. */
function startTime(pid: number): string {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return fields[0] === 'Z' ? '' : (fields[19] ?? '');
  } catch {
    return ''; // there is no such process
  }
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // nobody is left in it
  }
}
