/** Starting, stopping, pausing: what LXD is asked for, and what it is in afterwards. */
import type { ShiftvolError } from '../../errors.ts';
import type { PowerState } from '../machines.ts';
import type { LxdClient } from './client.ts';
import { LxdError } from './lxd-error.ts';
import type { LxdInstance } from './wire.ts';

export type Action = 'start' | 'stop' | 'freeze' | 'unfreeze';
type Change = {
  readonly action: Action;
  /** For a stop: how long its init may take. Without it the init is killed. */
  readonly timeoutMs?: number;
};

/** LXD's words of an instance's status. What is under way counts as what was before. */
export function powerOf(status: string): PowerState {
  switch (status) {
    case 'Running':
    case 'Ready':
    case 'Stopping':
    case 'Freezing':
      return 'running';
    case 'Frozen':
    case 'Thawed':
      return 'paused';
    case 'Error':
    case 'Aborting':
      return 'crashed';
    default:
      return 'stopped';
  }
}

/** LXD's own limit for a start; a stop has what its init may take, and a moment. */
const GRACE_MS = 30_000;

/** One try; waits for its end. @throws LxdError, also where the instance is in that state already */
export async function changeState(
  client: LxdClient,
  { project, name }: LxdInstance,
  { action, timeoutMs }: Change,
  signal: AbortSignal,
): Promise<void> {
  const force = action === 'stop' && timeoutMs === undefined;
  const seconds = Math.max(1, Math.ceil((timeoutMs ?? GRACE_MS) / 1000));
  await client.change('PUT', `${resource(project, name, 'state')}`, {
    body: { action, timeout: seconds, force, stateful: false },
    waitMs: seconds * 1000 + GRACE_MS,
    signal,
  });
}

export function resource(project: string, name: string, what: string): string {
  return `/1.0/instances/${encodeURIComponent(name)}/${what}?project=${encodeURIComponent(project)}`;
}

/** LXD says of a failed start only that a helper ended with status 1; LXC's log has the cause. */
export async function explainStart(
  client: LxdClient,
  { project, name }: LxdInstance,
  cause: LxdError,
  signal: AbortSignal,
): Promise<ShiftvolError> {
  const words = await lastErrors(client, resource(project, name, 'logs/lxc.log'), signal);
  const isClosed = /Permission denied - Failed to open/.test(words);
  return new LxdError(cause.status, `Cannot start instance "${name}"${words === '' ? '' : `: LXC says ${words}`}`, {
    ...(isClosed && {
      remedy: 'give every directory above that path x for others: LXC opens it from inside the user namespace',
    }),
    cause,
  });
}

/** `lxc NAME 20261124210913.252 ERROR    dir - ../src/lxc/storage/dir.c:dir_mount:163 - No such file or directory - Failed to open "..."` */
const ERROR_LINE = /^lxc \S+ \S+ ERROR +\S+ - \S+ - (.*)$/;
/** The first ones have the cause, the rest is what came of it. */
const LINES_TOLD = 2;

async function lastErrors(client: LxdClient, path: string, signal: AbortSignal): Promise<string> {
  try {
    const log = await client.text(path, signal);
    const errors = log.split('\n').flatMap(line => ERROR_LINE.exec(line)?.[1] ?? []);
    return errors
      .slice(0, LINES_TOLD)
      .map(line => JSON.stringify(line))
      .join(', ');
  } catch (error) {
    // A log that cannot be read must not hide the error that it is read for.
    if (error instanceof LxdError) return '';
    throw error;
  }
}
