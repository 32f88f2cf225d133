/**
 * What the journal knows, without taking it from whoever works with it: the agent is asked where one runs, else a copy is read. Both
 * are looked at only.
 */
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Attachment } from '../engine/model.ts';
import { ShiftvolError } from '../errors.ts';
import { isNodeErrno } from '../kernel/errno.ts';
import { Store } from '../store/journal.ts';
import { attempt, type Check, good, isRoot, notTried, warn } from './check.ts';

/** An attachment, as far as doctor compares it with the host. */
export type Known = {
  readonly id: string;
  readonly instance: string;
  readonly target: string;
  readonly state: Attachment['status']['state'];
  readonly hostPath: string;
  readonly image: string;
};

/** Undefined where no agent answers at this socket. */
export type AgentHealth =
  | {
      readonly pid: number;
      readonly bus: { readonly healthy: boolean; readonly rpc?: { readonly subscribed: boolean } | null } | null;
    }
  | undefined;

export type JournalFacts = { readonly checks: readonly Check[]; readonly known: readonly Known[] | undefined };

const TIMEOUT_MS = 5000;

/** `scratch`: a directory for the copy. */
export async function journalChecks(
  stateDir: string,
  socketPath: string,
  agent: AgentHealth,
  scratch: string,
): Promise<JournalFacts> {
  if (!isRoot()) return { checks: [notTried('journal.readable')], known: undefined };
  let known: readonly Known[] | undefined;
  const readable = await attempt('journal.readable', async () => {
    if (agent) {
      known = await askAgent<readonly Known[]>(socketPath, 'POST', '/v1/call', { command: 'list' });
      return good('journal.readable', `${known.length} attachments, by the agent`);
    }
    known = readCopy(stateDir, scratch);
    return good(
      'journal.readable',
      known === undefined ? `none yet in ${stateDir}` : `${known.length} attachments in ${stateDir}`,
    );
  });
  if (readable.ok !== true) return { checks: [readable], known: undefined };
  return { checks: [readable, settled(known ?? [])], known: known ?? [] };
}

/** @throws SV_HOST: somebody is there, and does not answer */
export async function agentHealth(socketPath: string): Promise<AgentHealth> {
  try {
    return await askAgent<NonNullable<AgentHealth>>(socketPath, 'GET', '/v1/health');
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ECONNREFUSED')) return undefined;
    throw error;
  }
}

function settled(known: readonly Known[]): Check {
  const open = known.filter(k => k.state !== 'attached' && k.state !== 'detached');
  if (open.length === 0) return good('journal.settled', 'nothing is half done');
  return warn(
    'journal.settled',
    `half done: ${open.map(k => `${k.instance}:${k.target} (${k.state})`).join(', ')}`,
    'shiftvol recover',
  );
}

/** The write-ahead log first: pages that get into the file meanwhile are then in both, never in neither. */
function readCopy(stateDir: string, scratch: string): readonly Known[] | undefined {
  const source = join(stateDir, 'journal.db');
  if (!existsSync(source)) return undefined;
  const copy = join(scratch, 'journal');
  mkdirSync(copy, { mode: 0o700 });
  if (existsSync(`${source}-wal`)) copyFileSync(`${source}-wal`, join(copy, 'journal.db-wal'));
  copyFileSync(source, join(copy, 'journal.db'));
  using store = new Store({ stateDir: copy, lockTimeoutMs: 0, outbox: false });
  return store.list().map(({ plan, status }) => ({
    id: plan.id,
    instance: plan.instance,
    target: plan.target,
    state: status.state,
    hostPath: plan.mountPath,
    image: plan.image.path,
  }));
}

/** The agent is ours: what it answers has the shape that it says. */
async function askAgent<T>(socketPath: string, method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const asked = request(
    { socketPath, path, method, headers: { 'content-type': 'application/json' }, timeout: TIMEOUT_MS },
    response => void text(response).then(resolve, reject),
  );
  asked.once('error', reject);
  asked.once('timeout', () =>
    asked.destroy(
      new ShiftvolError('SV_TIMEOUT', `Cannot hear from the agent at "${socketPath}" within ${TIMEOUT_MS} ms`),
    ),
  );
  asked.end(body === undefined ? undefined : JSON.stringify(body));
  const answer: { result?: T; error?: { message: string } } = JSON.parse(await promise);
  if (answer.result !== undefined) return answer.result;
  throw new ShiftvolError('SV_HOST', `Cannot use the agent’s answer: ${answer.error?.message ?? 'it is empty'}`);
}
