/** A client of a conversation that is played back, whose log is kept. */
import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import type { Code } from '../../../src/errors.ts';
import { explain, isError, report, type ShiftvolError } from '../../../src/errors.ts';
import type { Log } from '../../../src/log/log.ts';
import { findCloud } from '../../../src/openstack/cloud.ts';
import { CloudSession, type SessionOptions } from '../../../src/openstack/session.ts';
import { type MakeTrouble, Replay } from './replay.ts';

export type Client = AsyncDisposable & {
  readonly cloud: Replay;
  readonly session: CloudSession;
  readonly lines: string[];
};

export async function startClient(
  names: readonly string[],
  trouble?: MakeTrouble,
  options: SessionOptions & { readonly asEnv?: Readonly<Record<string, string>>; readonly serviceUser?: boolean } = {},
): Promise<Client> {
  const cloud = await Replay.start(names, trouble);
  const { asEnv, serviceUser, ...sessionOptions } = options;
  const env = asEnv === undefined ? cloud.env : { OS_AUTH_URL: cloud.env['OS_AUTH_URL'], ...asEnv };
  const lines: string[] = [];
  const session = new CloudSession(findCloud({ env }), {
    log: logInto(lines),
    retry: { delayMs: 10, maxDelayMs: 20 },
    env: {},
    ...(serviceUser && { service: findCloud({ env: { ...cloud.env, OS_USERNAME: 'cinder' } }) }),
    ...sessionOptions,
  });
  return {
    cloud,
    session,
    lines,
    async [Symbol.asyncDispose]() {
      session[Symbol.dispose]();
      await cloud[Symbol.asyncDispose]();
    },
  };
}

export function logInto(lines: string[]): Log {
  const log = (text: string, facts?: object): void => void lines.push(`${text} ${JSON.stringify(facts)}`);
  return { debug: log, info: log, warn: log, error: log };
}

/** The error of `asked`, which has `code` and shows neither a token nor a password in any of the ways in which errors are shown. */
export async function failure(asked: Promise<unknown>, code: Code): Promise<ShiftvolError> {
  const error = await asked.then(
    () => assert.fail('it did not fail'),
    (e: unknown) => e,
  );
  assert.ok(isError(error, code), inspect(error));
  assertNoSecret(
    `${explain(error)}\n${JSON.stringify(report(error))}\n${inspect(error, { depth: 9, showHidden: true })}`,
  );
  return error;
}

export function assertNoSecret(text: string): void {
  assert.doesNotMatch(text, /token-\d|demo-password|hidden-secret|gAAAA/);
}

export const soon = (): AbortSignal => AbortSignal.timeout(20_000);
