/** All checks of this host, one topic after the other. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../config/schema.ts';
import { LxdRuntime } from '../container/lxd/runtime.ts';
import { rootsDir } from '../engine/plan.ts';
import { busChecks } from './bus.ts';
import { attempt, type Check, good, warn } from './check.ts';
import { filesystemChecks } from './filesystems.ts';
import { hostChecks } from './host.ts';
import { idChecks } from './ids.ts';
import { type AgentHealth, agentHealth, journalChecks } from './journal.ts';
import { kernelChecks } from './kernel.ts';
import { deviceLeftovers, leftoverChecks } from './leftovers.ts';
import { type CloudLook, cloudChecks, importLeftovers, rootPoolCheck, rpcChecks } from './nova.ts';
import { poolChecks } from './pool.ts';
import { runtimeChecks } from './runtime.ts';
import { toolChecks } from './tools.ts';

export type ExamineOptions = {
  readonly config: Config;
  /** Where the agent of this run directory listens. */
  readonly socketPath: string;
  /** Absent: nothing is asked of it. */
  readonly cloud?: CloudLook;
  readonly signal: AbortSignal;
};

/** Tries everything anew, each time: a kernel module, a limit or a daemon may have come or gone. Leaves nothing on the host. */
export async function* examine({ config, socketPath, cloud, signal }: ExamineOptions): AsyncGenerator<Check> {
  using scratch = scratchDirectory();
  yield good('host.configuration', config.file);
  yield* hostChecks(rootsDir(config.runDir));
  yield* await kernelChecks(scratch.path);
  yield* await filesystemChecks(scratch.path);
  yield* toolChecks();
  yield* await idChecks({ owner: config.subidOwner, rangeSize: config.idRangeSize });

  using lxd = new LxdRuntime({
    configured: config.runtimes.lxd.socket ?? undefined,
    project: config.runtimes.lxd.project,
  });
  const runtime = await runtimeChecks(lxd, signal);
  yield* runtime;
  if (runtime[0]?.ok === true) yield* await rootPoolCheck(config, lxd.client, signal);
  yield* await poolChecks(config);

  let agent: AgentHealth;
  yield await attempt('agent.running', async () => {
    agent = await agentHealth(socketPath);
    return agentCheck(agent, config);
  });
  yield* rpcChecks(config, agent);
  const journal = await journalChecks(config.stateDir, socketPath, agent, scratch.path);
  yield* journal.checks;
  if (journal.known) {
    yield* await leftoverChecks(config, journal.known);
    if (runtime[0]?.ok === true) yield await deviceLeftovers(lxd, journal.known, signal);
  }
  yield await importLeftovers(config);
  yield* await busChecks(config, signal);
  if (cloud) yield* await cloudChecks(config, cloud, signal);
}

/** Exit status and `ok` of the whole: true unless something that is needed is missing. */
export const isFit = (checks: readonly Check[]): boolean => checks.every(c => c.ok !== false);

function agentCheck(agent: AgentHealth, { bus, host, runDir }: Config): Check {
  if (agent && agent.bus?.healthy === false)
    return warn(
      'agent.running',
      `pid ${agent.pid} is not subscribed on the bus`,
      'see its log, and the checks of the bus',
    );
  if (agent) return good('agent.running', `pid ${agent.pid}, as host "${host}"`);
  if (bus.listen.length === 0) return good('agent.running', 'none runs; commands work without, no bus is configured');
  return warn('agent.running', `none runs on ${runDir}: no notification is acted on`, 'shiftvol serve');
}

function scratchDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'shiftvol-doctor-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}
