/** Asks the agent of this state directory, or, where none runs, does it here: the same engine, the same answers. */
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { loadConfig } from '../config/load.ts';
import type { InstanceKey } from '../engine/model.ts';
import { type Code, type ErrorReport, ShiftvolError } from '../errors.ts';
import type { ApiRequest } from '../http/api.ts';
import type { GlobalOptions } from './command.ts';

/** @throws what the engine threw, wherever it ran */
export async function callEngine(options: GlobalOptions, request: ApiRequest): Promise<unknown> {
  const config = loadConfig(options);
  const reply = await callAgent(socketPath(config.runDir), request);
  if (reply) return unwrap(reply);
  if (request.command === 'list') return await listHere(config.stateDir, request.instance);
  const [{ assemble }, { answer }] = await Promise.all([import('./assemble.ts'), import('../http/api.ts')]);
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    await using host = await assemble(config, { outbox: false });
    return await answer(host.engine, request, stop.signal);
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

export function socketPath(runDir: string): string {
  return join(runDir, 'agent.sock');
}

/** The list needs nothing but the journal: no runtime, no mounts, no broker is loaded for it. */
async function listHere(stateDir: string, instance: string | undefined): Promise<unknown> {
  const { existsSync } = await import('node:fs');
  if (!existsSync(join(stateDir, 'journal.db'))) return [];
  const [{ Store }, { viewOf }] = await Promise.all([import('../store/journal.ts'), import('../http/view.ts')]);
  using store = new Store({ stateDir, lockTimeoutMs: LOCK_TIMEOUT_MS, outbox: false });
  return store.list(instance as InstanceKey | undefined).map(viewOf);
}

/** How long a command waits for another one that works on the same directory. */
export const LOCK_TIMEOUT_MS = 5000;

type Reply = { readonly result: unknown } | { readonly error: ErrorReport };

function unwrap(reply: Reply): unknown {
  if (!('error' in reply)) return reply.result;
  const { code, message, ...facts } = reply.error;
  throw new ShiftvolError(code satisfies Code, message, facts);
}

/** Not an import: that reads every export of node:http, the lazy WebSocket among them, which loads undici and costs more than all the rest. */
const { request: httpRequest } = process.getBuiltinModule('node:http');

/** Undefined where nobody listens. */
async function callAgent(path: string, request: ApiRequest): Promise<Reply | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply | undefined>();
  const call = httpRequest(
    { socketPath: path, path: '/v1/call', method: 'POST', headers: { 'content-type': 'application/json' } },
    response => {
      text(response)
        .then(body => resolve(JSON.parse(body) as Reply))
        .catch(reject);
    },
  );
  call.once('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined);
    else if (error.code === 'EACCES')
      reject(
        new ShiftvolError('SV_HOST', `Cannot talk to the agent at "${path}": permission denied`, {
          remedy: 'run it as root',
          cause: error,
        }),
      );
    else
      reject(
        new ShiftvolError('SV_BUSY', `Cannot hear from the agent at "${path}": the connection broke`, {
          remedy: 'see "shiftvol list" for what became of it',
          cause: error,
        }),
      );
  });
  call.end(JSON.stringify(request));
  return await promise;
}
