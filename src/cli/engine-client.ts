/** Asks the agent of this state directory, or, where none runs, does it here: the same engine, the same answers. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { ShiftvolError } from '../errors.ts';
import { callAgent } from '../http/agent-client.ts';
import type { ApiRequest } from '../http/api.ts';
import type { Log } from '../log/log.ts';
import type { GlobalOptions } from './command.ts';
import { stopOnSignals } from './signals.ts';

/** @throws what the engine threw, wherever it ran */
export async function callEngine(options: GlobalOptions, request: ApiRequest): Promise<unknown> {
  const config = loadConfig(options);
  using stop = stopOnSignals();
  const answered = await callAgent(socketPath(config.runDir), request, { signal: stop.signal });
  if (answered) return answered.result;
  if (request.command === 'list') return await listHere(config.stateDir, request.instance);
  return await answerHere(config, options, request, stop.signal);
}

export function socketPath(runDir: string): string {
  return join(runDir, 'agent.sock');
}

/** How long a command waits for another one that works on the same directory. */
export const LOCK_TIMEOUT_MS = 5000;

/** The list needs nothing but the journal: no runtime, no mounts, no broker is loaded for it. */
async function listHere(stateDir: string, instance: string | undefined): Promise<unknown> {
  if (!hasJournal(stateDir)) return [];
  const [{ Store }, { listView }] = await Promise.all([import('../store/journal.ts'), import('../http/view.ts')]);
  using store = new Store({ stateDir, lockTimeoutMs: LOCK_TIMEOUT_MS, outbox: false });
  return listView(store.list(), instance);
}

/** @throws SV_STORE: we may not look; that is no empty list */
function hasJournal(stateDir: string): boolean {
  try {
    return statSync(join(stateDir, 'journal.db'), { throwIfNoEntry: false }) !== undefined;
  } catch (cause) {
    throw new ShiftvolError('SV_STORE', `Cannot look into the state directory "${stateDir}"`, {
      remedy: 'run it as root',
      cause,
    });
  }
}

async function answerHere(
  config: Config,
  options: GlobalOptions,
  request: ApiRequest,
  signal: AbortSignal,
): Promise<unknown> {
  const [{ assemble }, { answer }] = await Promise.all([import('./assemble.ts'), import('../http/api.ts')]);
  const log = options.verbose ? await (await import('./command-log.ts')).commandLog(options) : undefined;
  using _steps = log && (await logStepsOf(log));
  await using host = await assemble(config, { outbox: false, log });
  return await answer(host.engine, request, signal);
}

async function logStepsOf(log: Log): Promise<Disposable> {
  const { logSteps } = await import('../log/log.ts');
  return logSteps(log);
}
