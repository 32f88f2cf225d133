/** An agent that dies by SIGKILL, with all the programs it has started, as a service manager would see to; and the next one, which recovers. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { assemble, type Host } from '../../src/cli/assemble.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Connection } from '../../src/engine/model.ts';
import type { WrapStep } from '../../src/engine/saga.ts';
import type { Secrets } from '../../src/engine/secrets.ts';
import { type ConnectionsOptions, makeConnections } from '../../src/storage/connect/connections.ts';
import { stoppedInstances } from './stopped-instances.ts';

export type Agent = Pick<ConnectionsOptions, 'runDir' | 'multipath' | 'localPaths'> & { readonly stateDir: string };
/** What the agent is to connect. Goes through stdin: there are secrets in it. */
export type Order = { readonly connection: Connection; readonly secrets: Readonly<Record<string, string>> };

const PROGRAM = new URL('killed-agent-program.ts', import.meta.url).pathname;
/** In emulation most connections take some seconds. */
const LONGEST_MS = 4000;

export function openAgent({ stateDir, ...options }: Agent, wrapStep?: WrapStep): Promise<Host> {
  const env = { SHIFTVOL_STATE_DIR: stateDir, SHIFTVOL_RUN_DIR: options.runDir, SHIFTVOL_HOST: 'vm' };
  return assemble(loadConfig({}, env), {
    outbox: false,
    change: deps => ({
      ...deps,
      runtimes: [stoppedInstances()],
      connections: makeConnections({ ...options, makeFilesystem: 'ext4' }),
      ...(wrapStep && { wrapStep }),
    }),
  });
}

/** Returns after how many milliseconds, from the beginning of the connection, it was killed. */
export async function killAgent(
  agent: Agent,
  {
    connection,
    secrets,
    when,
  }: { connection: Connection; secrets?: Secrets | undefined; when: 'connected' | 'some time' },
): Promise<number> {
  const child = spawn(process.execPath, [PROGRAM, JSON.stringify(agent)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const ended = once(child, 'close');
  child.stdin.end(JSON.stringify({ connection, secrets: secrets?.reveal() ?? {} } satisfies Order));
  const said = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  await said.next();
  const began = performance.now();
  if (when === 'connected' && (await said.next()).done) throw new Error('The agent has ended by itself');
  else await sleep(Math.random() * LONGEST_MS);
  if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  await ended;
  return Math.round(performance.now() - began);
}

/** What became of each attachment that was not as it should be. @throws Error: one was left */
export async function recoverAgent(agent: Agent): Promise<readonly string[]> {
  await using host = await openAgent(agent);
  const found = await host.engine.recover({ dryRun: false, signal: new AbortController().signal });
  const left = found.attachments.find(({ did }) => did === 'left');
  if (left) throw new Error(`recover left it: ${left.error?.message}`);
  return found.attachments.map(({ did }) => did);
}
