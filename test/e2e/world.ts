/**
 * A whole host for the end-to-end tests: a private LXD, a pool on XFS, templates, and an engine or an agent on them. Everything is
 * below one temporary directory and is gone afterwards.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { assemble, type Host } from '../../src/cli/assemble.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { EngineDeps } from '../../src/engine/deps.ts';
import type { FsType } from '../../src/engine/model.ts';
import { umount2 } from '../../src/kernel/mount.ts';
import { readMountinfo } from '../../src/mount/mountinfo.ts';
import { importTemplate } from '../../src/storage/import/import.ts';
import { createPool } from '../../src/storage/pool.ts';
import { type Lxd, startLxd } from '../rig/lxd.ts';
import { makeTree } from '../rig/tree.ts';

export const CLI = new URL('../../src/cli/main.ts', import.meta.url).pathname;

export type World = AsyncDisposable & {
  readonly dir: string;
  readonly stateDir: string;
  readonly runDir: string;
  readonly poolDir: string;
  readonly lxd: Lxd;
  readonly env: NodeJS.ProcessEnv;
  /** A template of a small tree with odd owners, modes, ACLs and attributes. */
  addTemplate(
    name: string,
    options?: { fsType?: FsType; files?: number; idBase?: number; from?: string },
  ): Promise<void>;
  /** The engine in this process. */
  engine(change?: (deps: EngineDeps) => EngineDeps): Promise<Host>;
  /** `shiftvol ...` as a process of its own, against this world. */
  cli(...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }>;
  /** `shiftvol serve` as a process of its own, ready. `program`: another than that of this checkout. */
  agent(config?: string, program?: readonly string[]): Promise<Agent>;
};

export type Agent = AsyncDisposable & {
  readonly pid: number;
  readonly process: ChildProcess;
  kill(signal: NodeJS.Signals): Promise<void>;
  log(): string;
};

export async function makeWorld({ pool = true }: { readonly pool?: boolean } = {}): Promise<World> {
  await using scope = new AsyncDisposableStack();
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-e2e-'));
  scope.defer(() => rmSync(dir, { recursive: true, force: true }));
  const [stateDir, runDir] = [join(dir, 'state'), join(dir, 'run')];
  const poolDir = join(stateDir, 'pool');
  mkdirSync(stateDir, { mode: 0o700 });
  if (pool) await createPool({ stateDir, poolDir }, { sizeBytes: 20 * 2 ** 30 });
  // With all that is in it: `pool remove` would refuse while there are templates. After the containers, which may hold a snapshot.
  scope.defer(() => {
    if (readMountinfo('/proc').some(m => m.point === poolDir)) umount2(poolDir, { lazy: false });
  });
  const lxd = scope.use(await startLxd());
  // Only where a test has failed is anything left to take away; its failure is to be seen, not what follows from it.
  scope.defer(() => {
    for (const { point } of readMountinfo('/proc').toReversed())
      if (point.startsWith(`${runDir}/`)) umount2(point, { lazy: true });
  });
  const env = {
    ...process.env,
    SHIFTVOL_STATE_DIR: stateDir,
    SHIFTVOL_RUN_DIR: runDir,
    SHIFTVOL_LXD_SOCKET: lxd.socketPath,
    SHIFTVOL_HOST: 'node1',
    NO_COLOR: '1',
  };
  const kept = scope.move();
  const world: World = {
    dir,
    stateDir,
    runDir,
    poolDir,
    lxd,
    env,
    async addTemplate(name, { fsType = 'ext4', files = 200, idBase = 0, from } = {}) {
      const tree = from ?? join(dir, `tree-${name}`);
      if (from === undefined) await makeTree(tree, { files });
      await importTemplate({ poolDir }, { name, from: tree, fsType, idBase });
      if (from === undefined) rmSync(tree, { recursive: true });
    },
    engine: change => assemble(loadConfig({}, env), { outbox: false, ...(change && { change }) }),
    cli: (...args) => runCli(env, args),
    agent: (config, program = [process.execPath, CLI]) => startAgent({ dir, env, config, program }),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
  return world;
}

async function runCli(
  env: NodeJS.ProcessEnv,
  args: readonly string[],
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [CLI, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const code = await new Promise<number>(resolve => child.once('close', status => resolve(status ?? -1)));
  return { code, stdout, stderr };
}

type AgentOptions = {
  readonly dir: string;
  readonly env: NodeJS.ProcessEnv;
  readonly config: string | undefined;
  readonly program: readonly string[];
};

async function startAgent({ dir, env, config, program: [command = '', ...first] }: AgentOptions): Promise<Agent> {
  const file = join(dir, 'plugin.yaml');
  if (config !== undefined) writeFileSync(file, config);
  const args = [...first, 'serve', '-v', ...(config === undefined ? [] : ['--config', file])];
  const child = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  const ended = new Promise<void>(resolve => child.once('close', () => resolve()));
  const deadline = Date.now() + 30_000;
  while (!/ ready /.test(log)) {
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`the agent did not get ready: ${log}`);
    await sleep(20);
  }
  const kill = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    await ended;
  };
  return { pid: child.pid ?? -1, process: child, kill, log: () => log, [Symbol.asyncDispose]: () => kill('SIGTERM') };
}
