/** The other end of the agent's socket. Loads node:http when there is a socket to talk to, and no sooner. */
import { existsSync } from 'node:fs';
import { Secrets } from '../engine/secrets.ts';
import { CODES, type Code, type ErrorReport, ShiftvolError } from '../errors.ts';
import type { ApiRequest } from './api.ts';

export type AgentOptions = {
  /** Gives up: the agent undoes what it had begun for us. */
  readonly signal?: AbortSignal;
  /** After so long without an answer the agent is asked whether it lives, and gets as long again. Default: 5000. */
  readonly silenceMs?: number;
};
type Call = { readonly method: 'GET' | 'POST'; readonly path: string; readonly body?: string };

const SILENCE_MS = 5000;
/** A list of 100,000 attachments. */
const MAX_REPLY_BYTES = 256 * 2 ** 20;

/**
 * Asks the agent, and waits as long as the work takes and the agent lives. Undefined where nobody listens.
 * @throws the agent's errors as they are; SV_AGENT: it does not answer, or not as an agent does; SV_HOST: we may not ask;
 *   SV_CANCELLED
 */
export async function callAgent(
  socketPath: string,
  request: ApiRequest,
  { signal, silenceMs = SILENCE_MS }: AgentOptions = {},
): Promise<{ readonly result: unknown } | undefined> {
  if (!existsSync(socketPath)) return undefined;
  const over = new AbortController();
  const answer = send(
    socketPath,
    { method: 'POST', path: '/v1/call', body: JSON.stringify(inTheClear(request)) },
    signal ? AbortSignal.any([signal, over.signal]) : over.signal,
  );
  const watch = setInterval(() => {
    const health = send(socketPath, { method: 'GET', path: '/v1/health' }, AbortSignal.timeout(silenceMs));
    health.catch((cause: unknown) => over.abort(notHeard(socketPath, 'it does not answer', cause)));
  }, silenceMs);
  try {
    const text = await answer;
    return text === undefined ? undefined : { result: resultOf(socketPath, text) };
  } catch (error) {
    if (!signal?.aborted) throw error;
    throw new ShiftvolError('SV_CANCELLED', 'Cancelled: the agent undoes what it had begun', { cause: signal.reason });
  } finally {
    clearInterval(watch);
  }
}

/** What an agent says of itself. */
export type Health = {
  readonly host: string;
  readonly pid: number;
  readonly bus: { readonly healthy: boolean } | null;
  /** Why it should be started anew; absent where it lives well. */
  readonly ill?: string;
  /** What its work needs and is not there; absent unless it was asked for. */
  readonly missing?: readonly { readonly part: string; readonly what: string }[];
};

/** Asks the agent whether it lives; with `ready`, whether all is there for its work, too. Undefined where nobody listens. @throws SV_AGENT: it does not answer before the signal; SV_HOST */
export async function askHealth(
  socketPath: string,
  signal: AbortSignal,
  { ready = false }: { ready?: boolean } = {},
): Promise<Health | undefined> {
  if (!existsSync(socketPath)) return undefined;
  let text: string | undefined;
  try {
    text = await send(socketPath, { method: 'GET', path: `/v1/health${ready ? '?ready' : ''}` }, signal);
  } catch (error) {
    throw signal.aborted ? notHeard(socketPath, 'it does not answer', error) : error;
  }
  if (text === undefined) return undefined;
  const health = resultOf(socketPath, text);
  if (isHealth(health)) return health;
  throw notHeard(socketPath, 'what answers there is no shiftvol of this version');
}

/** What an agent counts, as its `/v1/stats` has it. Undefined where nobody listens. @throws SV_AGENT: it does not answer before the signal; SV_HOST */
export async function askStats(socketPath: string, signal: AbortSignal): Promise<unknown> {
  if (!existsSync(socketPath)) return undefined;
  try {
    const text = await send(socketPath, { method: 'GET', path: '/v1/stats' }, signal);
    return text === undefined ? undefined : resultOf(socketPath, text);
  } catch (error) {
    throw signal.aborted ? notHeard(socketPath, 'it does not answer', error) : error;
  }
}

/** Of whoever started us, where that is traced: as OpenTelemetry hands it from process to process. The agent looks whether it is one. */
function traceContext({ TRACEPARENT, TRACESTATE }: NodeJS.ProcessEnv = process.env): Readonly<Record<string, string>> {
  const isHeader = (text: string | undefined): text is string =>
    text !== undefined && /^[\x20-\x7e]{1,512}$/.test(text);
  return {
    ...(isHeader(TRACEPARENT) && { traceparent: TRACEPARENT }),
    ...(isHeader(TRACESTATE) && { tracestate: TRACESTATE }),
  };
}

function isHealth(value: unknown): value is Health {
  if (typeof value !== 'object' || value === null || !('pid' in value) || !('bus' in value) || !('host' in value))
    return false;
  const { pid, bus, host } = value;
  if ('ill' in value && typeof value.ill !== 'string') return false;
  if ('missing' in value && !isMissing(value.missing)) return false;
  if (typeof pid !== 'number' || typeof host !== 'string') return false;
  return bus === null || (typeof bus === 'object' && 'healthy' in bus && typeof bus.healthy === 'boolean');
}

function isMissing(value: unknown): boolean {
  const isText = (one: object, key: string) =>
    typeof Object.entries(one).find(([name]) => name === key)?.[1] === 'string';
  return (
    Array.isArray(value) &&
    value.every(one => typeof one === 'object' && one !== null && isText(one, 'part') && isText(one, 'what'))
  );
}

/** Secrets hide themselves from JSON; the agent must have them. */
function inTheClear(request: ApiRequest): ApiRequest {
  if (request.command !== 'execute' || request.body.action !== 'attach') return request;
  const { secrets } = request.body;
  if (!(secrets instanceof Secrets)) return request;
  return { ...request, body: { ...request.body, secrets: secrets.reveal() } };
}

/** The body of the answer. Undefined where nobody listens. */
async function send(socketPath: string, call: Call, signal: AbortSignal): Promise<string | undefined> {
  // Not an import: that reads every export, the lazy WebSocket among them, which loads undici and costs more than all the rest.
  const { request } = process.getBuiltinModule('node:http');
  const { promise, resolve, reject } = Promise.withResolvers<string | undefined>();
  const stop = (): void => {
    reject(signal.reason);
    outgoing.destroy();
  };
  const headers = { 'content-type': 'application/json', connection: 'close', ...traceContext() };
  const outgoing = request({ socketPath, agent: false, method: call.method, path: call.path, headers }, incoming => {
    let text = '';
    incoming.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (text.length > MAX_REPLY_BYTES) incoming.destroy(new Error('its answer has no end'));
    });
    incoming.once('end', () => resolve(text)).once('error', error => reject(broken(socketPath, error)));
  });
  outgoing.once('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined);
    else reject(broken(socketPath, error));
  });
  signal.addEventListener('abort', stop);
  if (signal.aborted) stop();
  else outgoing.end(call.body);
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function resultOf(socketPath: string, text: string): unknown {
  const reply = parse(text);
  if (typeof reply === 'object' && reply !== null) {
    if ('error' in reply && isReport(reply.error)) {
      const { code, message, ...facts } = reply.error;
      throw new ShiftvolError(code, message, facts);
    }
    if ('result' in reply) return reply.result;
  }
  throw notHeard(socketPath, 'what answers there is no shiftvol of this version');
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isReport(value: unknown): value is ErrorReport {
  if (typeof value !== 'object' || value === null || !('code' in value) || !('message' in value)) return false;
  return isCode(value.code) && typeof value.message === 'string';
}

const isCode = (code: unknown): code is Code => typeof code === 'string' && Object.hasOwn(CODES, code);

function broken(socketPath: string, error: NodeJS.ErrnoException): ShiftvolError {
  if (error.code === 'EACCES' || error.code === 'EPERM')
    return new ShiftvolError('SV_HOST', `Cannot talk to the agent at "${socketPath}": permission denied`, {
      remedy: 'run it as root',
      cause: error,
    });
  return notHeard(socketPath, 'the connection broke', error);
}

function notHeard(socketPath: string, what: string, cause?: unknown): ShiftvolError {
  return new ShiftvolError('SV_AGENT', `Cannot hear from the agent at "${socketPath}": ${what}`, {
    remedy:
      'look at its log, and start it again; what it had begun is ended then: "shiftvol list" says what became of it',
    ...(cause === undefined ? {} : { cause }),
  });
}
