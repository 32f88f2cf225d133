/**
 * A private LXD for tests and the demo: a daemon of our own in a directory of its own, with a `dir` pool, no network, and a busybox
 * image built here. Never touches an LXD that is there already; several may run at once, one a test file.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { makeImages } from './busybox.ts';
import { type Json, LxdApi } from './lxd-api.ts';
import { findRuntimeDaemon } from './runtime-daemon.ts';
import { needSubids } from './subuid.ts';

const run = promisify(execFile);

export type Device = { readonly [key: string]: string };
export type LaunchOptions = {
  readonly project?: string;
  readonly devices?: { readonly [name: string]: Device };
  readonly profiles?: readonly string[];
  /** Default: `busybox`. */
  readonly image?: 'busybox' | 'stub';
};
export type Config = { readonly [key: string]: string };
export type ExecResult = { readonly code: number; readonly stdout: string; readonly stderr: string };
type InProject = { readonly project?: string };
export type ExecOptions = InProject & { readonly uid?: number; readonly gid?: number };

export type LxdOptions = {
  /**
   * Where LXD keeps its things; made here, must not be there yet, and is removed at the end. Keep it short: sockets lie below it, and
   * the path of a socket has at most 107 bytes. Default: one below /tmp.
   */
  readonly dir?: string;
};

/** Starts the daemon, makes pool, profile and images. About 0.5 s. The caller disposes of it. Needs root. */
export async function startLxd(options: LxdOptions = {}): Promise<Lxd> {
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'shiftvol-lxd-')));
  // Never somebody's directory: it will be removed.
  if (options.dir !== undefined) await mkdir(dir);
  // Containers' own users walk through it to their root file system.
  await chmod(dir, 0o711);
  const subids = needSubids();
  const lxd = new Lxd(dir, subids);
  try {
    await lxd.startDaemon();
    await lxd.configure();
    return lxd;
  } catch (error) {
    await lxd[Symbol.asyncDispose]();
    throw error;
  }
}

export class Lxd implements AsyncDisposable {
  readonly dir: string;
  readonly socketPath: string;
  readonly api: LxdApi;
  /** LXD, or Incus where that is what there is. */
  readonly runtime = findRuntimeDaemon();
  readonly #subids: Disposable;
  #daemon: ChildProcess | undefined;
  #configured = false;

  constructor(dir: string, subids: Disposable) {
    this.dir = dir;
    this.socketPath = join(dir, 'unix.socket');
    this.api = new LxdApi(this.socketPath);
    this.#subids = subids;
  }

  get running(): boolean {
    const daemon = this.#daemon;
    return daemon?.pid !== undefined && daemon.exitCode === null && daemon.signalCode === null;
  }

  /** Of the daemon. */
  get pid(): number {
    if (this.#daemon?.pid === undefined) throw new Error('LXD is not running');
    return this.#daemon.pid;
  }

  /** For `lxc` and `lxd` as child processes; the client's own configuration stays in our directory too. */
  get env(): NodeJS.ProcessEnv {
    const { dirVariable, confVariable } = this.runtime;
    return { ...process.env, [dirVariable]: this.dir, [confVariable]: join(this.dir, 'client'), HOME: this.dir };
  }

  async startDaemon(): Promise<void> {
    await using log = await open(join(this.dir, 'daemon.log'), 'a');
    // A session of its own: Ctrl-C at the demo must reach us first, not the daemon. Should we be killed, it gets SIGPWR, which means
    // "stop the containers and end" to LXD.
    const daemon = spawn('setpriv', ['--pdeathsig', 'PWR', this.runtime.program, '--group', 'root'], {
      env: this.env,
      stdio: ['ignore', log.fd, log.fd],
      detached: true,
    });
    daemon.once('error', () => {}); // then there is no pid, which is looked at below
    daemon.unref();
    this.#daemon = daemon;
    const deadline = Date.now() + 60_000;
    for (;;) {
      if (!this.running)
        throw new Error(`LXD did not start (apt-get install lxd busybox-static, and be root): ${await this.log()}`);
      if (
        existsSync(this.socketPath) &&
        (await this.api.get('/internal/ready').then(
          () => true,
          () => false,
        ))
      )
        return;
      if (Date.now() > deadline) throw new Error(`LXD was not ready after 60 s: ${await this.log()}`);
      await sleep(20);
    }
  }

  /** SIGTERM ends the daemon and leaves its containers running, as a package upgrade does. */
  async stopDaemon(): Promise<void> {
    const daemon = this.#daemon;
    this.api.close();
    if (daemon === undefined || !this.running) return;
    const ended = new Promise(resolve => daemon.once('exit', resolve));
    daemon.kill('SIGTERM');
    const kill = setTimeout(() => daemon.kill('SIGKILL'), 15_000);
    await ended;
    clearTimeout(kill);
  }

  /** The last lines that the daemon wrote. */
  async log(): Promise<string> {
    const text = await readFile(join(this.dir, 'daemon.log'), 'utf8');
    return text.split('\n').slice(-15).join('\n');
  }

  async configure(): Promise<void> {
    await this.api.post('/1.0/storage-pools', { name: 'default', driver: 'dir' });
    await this.api.put('/1.0/profiles/default', {
      // Else each container claims all of root's ids, and a test that runs beside this one finds none free.
      config: { 'security.idmap.isolated': 'true' },
      devices: { root: { type: 'disk', path: '/', pool: 'default' } },
    });
    const built = join(this.dir, 'built');
    await mkdir(built);
    const images = await makeImages(built);
    for (const [alias, path] of Object.entries(images)) {
      const { fingerprint } = await this.api.upload('/1.0/images', path);
      await this.api.post('/1.0/images/aliases', { name: alias, target: fingerprint });
    }
    await rm(built, { recursive: true });
    this.#configured = true;
  }

  /** Shares images and profiles with the default project. */
  async createProject(name: string): Promise<void> {
    await this.api.post('/1.0/projects', {
      name,
      config: { 'features.images': 'false', 'features.profiles': 'false' },
    });
  }

  async create(name: string, config: Config = {}, options: LaunchOptions = {}): Promise<void> {
    await this.api.post(`/1.0/instances${query(options)}`, {
      name,
      source: { type: 'image', alias: options.image ?? 'busybox' },
      config,
      devices: options.devices ?? {},
      profiles: options.profiles ?? ['default'],
    });
  }

  /** Creates and starts a container; about 200 ms. */
  async launch(name: string, config: Config = {}, options: LaunchOptions = {}): Promise<void> {
    await this.create(name, config, options);
    await this.start(name, options);
  }

  /**
   * Creates a container (not started) whose root file system is `rootfs` on the host: mapped already, to the ids from `base` on, which
   * lie in root's subuid range. Every directory above it must have x for others: LXC opens it from inside the user namespace.
   */
  async createOn(
    name: string,
    rootfs: string,
    range: { readonly base: number; readonly size: number },
    config: Config = {},
    options: InProject = {},
  ): Promise<void> {
    const own = {
      'raw.lxc': `lxc.rootfs.path=dir:${rootfs}`,
      'security.idmap.isolated': 'true',
      'security.idmap.base': String(range.base),
      'security.idmap.size': String(range.size),
    };
    await this.create(name, { ...own, ...config }, { ...options, image: 'stub' });
  }

  /** @throws with LXC's own log, since LXD's words are "exit status 1" */
  async start(name: string, options: InProject = {}): Promise<void> {
    try {
      await this.#state(name, options, { action: 'start', timeout: 30 });
    } catch (cause) {
      const container = options.project === undefined ? name : `${options.project}_${name}`;
      const log = await readFile(join(this.dir, 'logs', container, 'lxc.log'), 'utf8').catch(() => '');
      throw new Error(`${cause instanceof Error ? cause.message : cause}\n${log}`, { cause });
    }
  }

  /** At once: processes inside get SIGKILL. */
  stop(name: string, options: InProject = {}): Promise<void> {
    return this.#state(name, options, { action: 'stop', timeout: 10, force: true });
  }

  async restart(name: string, options: InProject = {}): Promise<void> {
    await this.stop(name, options);
    await this.start(name, options);
  }

  async #state(name: string, options: InProject, state: Json): Promise<void> {
    // After a start that failed LXD is busy with stopping for 5 s.
    await this.api.patiently(() => this.api.put(`/1.0/instances/${name}/state${query(options)}`, state));
  }

  async delete(name: string, options: InProject = {}): Promise<void> {
    await this.api.patiently(() => this.api.delete(`/1.0/instances/${name}${query(options)}`));
  }

  /** The configuration as LXD shows it: `config`, `devices`, `expanded_devices`, `status`, ... */
  get(name: string, options: InProject = {}): Promise<Json> {
    return this.api.get(`/1.0/instances/${name}${query(options)}`);
  }

  /** Of the container's init, on the host. 0 where it does not run. */
  async initPid(name: string, options: InProject = {}): Promise<number> {
    const { pid } = await this.api.get(`/1.0/instances/${name}/state${query(options)}`);
    return typeof pid === 'number' ? pid : 0;
  }

  /** Runs a program in the container, as its root unless told otherwise, and waits for its end. */
  async exec(name: string, argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const project = query(options);
    const { metadata } = await this.api.post(`/1.0/instances/${name}/exec${project}`, {
      command: argv,
      environment: { PATH: '/bin:/sbin', HOME: '/root' },
      'record-output': true,
      'wait-for-websocket': false,
      interactive: false,
      user: options.uid ?? 0,
      group: options.gid ?? options.uid ?? 0,
    });
    if (!isObject(metadata) || !isObject(metadata['output'])) throw new Error(`exec: ${JSON.stringify(metadata)}`);
    const { output } = metadata;
    const read = async (path: unknown) => {
      const text = await this.api.text(`${path}${project}`);
      await this.api.delete(`${path}${project}`);
      return text;
    };
    const [stdout, stderr] = await Promise.all([read(output['1']), read(output['2'])]);
    return { code: Number(metadata['return']), stdout, stderr };
  }

  /** stdout of `sh -c script`; throws where it ends with another status than 0. */
  async sh(name: string, script: string, options: ExecOptions = {}): Promise<string> {
    const result = await this.exec(name, ['sh', '-c', script], options);
    if (result.code !== 0) throw new Error(`sh -c ${JSON.stringify(script)} in ${name}: ${JSON.stringify(result)}`);
    return result.stdout.trimEnd();
  }

  /** Stops everything, and refuses to remove a directory with anything mounted below it. Safe to repeat. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!existsSync(this.dir)) return;
    if (this.#configured) {
      // Containers outlive their daemon, whatever ended it.
      if (!(await this.#answers())) {
        await this.stopDaemon();
        await this.startDaemon();
      }
      await this.#deleteInstances();
    }
    await this.stopDaemon();
    // LXD unmounts shmounts and devlxd itself when no container runs; what is still there is in the way of removal.
    for (const path of (await mountsBelow(this.dir)).reverse()) await run('umount', [path]);
    const left = await mountsBelow(this.dir);
    if (left.length > 0) throw new Error(`still mounted, so not removed: ${left.join(' ')}`);
    await run('rm', ['-rf', '--one-file-system', '--', this.dir]);
    this.#subids[Symbol.dispose]();
  }

  #answers(): Promise<boolean> {
    return this.api.get('/1.0').then(
      () => true,
      () => false,
    );
  }

  async #deleteInstances(): Promise<void> {
    const all = await this.api.list('/1.0/instances?recursion=1&all-projects=true');
    await Promise.all(
      all.map(async ({ name, project, status }) => {
        const where = { project: String(project) };
        if (status !== 'Stopped') await this.stop(String(name), where);
        await this.delete(String(name), where);
      }),
    );
  }
}

function query({ project }: InProject): string {
  return project === undefined ? '' : `?project=${encodeURIComponent(project)}`;
}

export function isObject(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === 'object' && value !== null;
}

/** Mount points below the directory in our own namespace, in the order in which they were mounted. */
async function mountsBelow(dir: string): Promise<string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  return table
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(path => path.startsWith(`${dir}/`));
}
