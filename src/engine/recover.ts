import { type ErrorReport, explain, report } from '../errors.ts';
import { releasedWith, undoAll } from './attach.ts';
import type { EngineDeps } from './deps.ts';
import { takeAway } from './detach.ts';
import type { Attachment, AttachmentId, InstanceKey, Plan, RemovalGoal } from './model.ts';
import { DEVICE_PREFIX } from './plan.ts';
import type { Instance, Runtime } from './ports.ts';
import type { InOrder } from './queue.ts';
import { mountAgain } from './remount.ts';
import { resolve } from './resolve.ts';
import type { Steps } from './steps.ts';
import type { TaskRecovery, Tasks } from './tasks.ts';

/**
 * `finished`: rolled forward; `undone`: rolled back; `mounted again`: after a reboot; `waits`: after a reboot, for whoever had it attached to
 * ask for it again; `left`: something stands in the way.
 */
export type Recovery = {
  readonly attachment: AttachmentId;
  readonly instance: InstanceKey;
  readonly target: string;
  readonly was: Attachment['status']['state'];
  readonly did: 'finished' | 'undone' | 'mounted again' | 'waits' | 'left';
  readonly error?: ErrorReport;
};

/**
 * Things that look like ours and that the journal does not know: told, never touched. `unseen`: a place that could not be looked at, and
 * why; a runtime that is away is no reason not to start.
 */
export type Leftover = { readonly kind: 'snapshot' | 'device' | 'attachment' | 'unseen'; readonly what: string };

export function leftoverText({ kind, what }: Leftover): string {
  return kind === 'unseen' ? `could not look at ${what}` : `not in the journal, left alone: ${kind} ${what}`;
}

export type Recovered = {
  readonly dryRun: boolean;
  readonly tasks: readonly TaskRecovery[];
  readonly attachments: readonly Recovery[];
  readonly leftovers: readonly Leftover[];
};

/**
 * Compares the journal with what is on this host and ends every unfinished saga, forward or back; mounts again what a reboot took.
 * Safe at any time and any number of times: what is right already is left alone.
 */
export async function recover(
  deps: EngineDeps,
  steps: Steps,
  tasks: Tasks,
  { dryRun, signal }: { dryRun: boolean; signal: AbortSignal },
  inOrder: InOrder,
): Promise<Recovered> {
  if (!dryRun) {
    await tasks.thawAll();
    await deps.saved.sweep();
    deps.backend.spares.sweep();
  }
  // At once, as far as commands are: storage that is away keeps each waiting for as long as its own tools take.
  const checks = deps.journal
    .list()
    .map(({ plan }) => inOrder(plan.instance, () => check(deps, steps, plan.id, dryRun, signal)));
  const found = (await Promise.all(checks)).filter(one => one !== undefined);
  const ended = await tasks.recover(dryRun, signal, inOrder);
  const leftovers = [...(await findLeftovers(deps, signal)), ...(await sweepVolumes(deps, dryRun, signal))];
  return { dryRun, tasks: ended, attachments: found, leftovers };
}

async function check(
  deps: EngineDeps,
  steps: Steps,
  id: AttachmentId,
  dryRun: boolean,
  signal: AbortSignal,
): Promise<Recovery | undefined> {
  const attachment = deps.journal.find(id);
  if (!attachment) return undefined;
  const { plan, status } = attachment;
  const facts = { attachment: id, instance: plan.instance, target: plan.target, was: status.state };
  try {
    const did = dryRun ? await intention(deps, attachment, signal) : await recoverOne(deps, steps, attachment, signal);
    return did && { ...facts, did };
  } catch (error) {
    return { ...facts, did: 'left', error: report(error) };
  }
}

type Intention = Exclude<Recovery['did'], 'left'> | undefined;

/** What there is to do about one attachment. Looks, and changes nothing. */
async function intention(deps: EngineDeps, { plan, status }: Attachment, signal: AbortSignal): Promise<Intention> {
  switch (status.state) {
    case 'detached':
      return undefined;
    case 'undoing':
      return 'undone';
    case 'detaching':
      return 'finished';
    case 'attached':
      if (await deps.mounter.inspect(plan.mountPath)) return undefined;
      return isDecidedElsewhere(deps, plan) ? 'waits' : 'mounted again';
    case 'attaching':
      return (await isComplete(deps, plan, signal)) ? 'finished' : 'undone';
    default:
      return status satisfies never;
  }
}

/** While this host was down its instance may have been evacuated: mounted on two hosts at once the file system would be destroyed. */
function isDecidedElsewhere({ connections }: EngineDeps, { source }: Plan): boolean {
  return source.kind === 'connection' && !connections.isOwn(source.connection);
}

/** Ends one attachment's unfinished saga. @throws what stands in the way; the journal stays as it is then */
export async function recoverOne(
  deps: EngineDeps,
  steps: Steps,
  attachment: Attachment,
  signal: AbortSignal,
): Promise<Intention> {
  const { plan } = attachment;
  const did = await intention(deps, attachment, signal);
  switch (did) {
    case undefined:
    case 'waits':
      return did;
    case 'undone':
      await undoAll(deps, steps, attachment, releasedWith(deps.journal, plan));
      return did;
    case 'mounted again':
      await mountAgain(deps, steps, plan, signal);
      return did;
    case 'finished':
      if (attachment.status.state === 'detaching')
        await goOnRemoving(deps, steps, attachment, attachment.status.goal, signal);
      else await mountAgain(deps, steps, plan, signal);
      return did;
    default:
      return did satisfies never;
  }
}

/** An attach whose last step was done, and whose end was not noted any more. */
async function isComplete(deps: EngineDeps, plan: Plan, signal: AbortSignal): Promise<boolean> {
  if (!(await deps.mounter.inspect(plan.mountPath))) return false;
  if (plan.handoff === 'none') return true;
  const runtime = deps.runtimes.find(r => r.name === plan.runtime);
  const devices = (await runtime?.devices(plan.deviceName, signal)) ?? [];
  return devices.some(d => d.device === plan.deviceName && d.hostPath === plan.mountPath && d.target === plan.target);
}

async function goOnRemoving(
  deps: EngineDeps,
  steps: Steps,
  attachment: Attachment,
  goal: RemovalGoal,
  signal: AbortSignal,
): Promise<void> {
  const instance = await findInstance(deps, attachment.plan, signal);
  await takeAway(deps, steps, attachment, { goal, lazy: false, instance, signal }, () => ({}));
}

async function findInstance(deps: EngineDeps, plan: Plan, signal: AbortSignal): Promise<Instance | undefined> {
  return plan.handoff === 'none' ? undefined : (await resolve(deps, plan.ref, signal)).instance;
}

async function findLeftovers(deps: EngineDeps, signal: AbortSignal): Promise<Leftover[]> {
  const known = deps.journal.list().map(a => a.plan);
  const snapshots = new Set(known.map(p => p.snapshot));
  const devices = new Set(known.map(p => p.deviceName));
  const found: Leftover[] = [];
  for (const name of await deps.backend.listSnapshots())
    if (!snapshots.has(name)) found.push({ kind: 'snapshot', what: name });
  for (const runtime of deps.runtimes) found.push(...(await strayDevices(runtime, devices, signal)));
  return found;
}

async function sweepVolumes(deps: EngineDeps, dryRun: boolean, signal: AbortSignal): Promise<readonly Leftover[]> {
  const sources = deps.journal.list().map(a => a.plan.source);
  const known = sources.flatMap(source => (source.kind === 'connection' ? [source.connection] : []));
  return (await deps.volumes?.sweep(known, { dryRun, signal })) ?? [];
}

async function strayDevices(runtime: Runtime, known: ReadonlySet<string>, signal: AbortSignal): Promise<Leftover[]> {
  try {
    const devices = await runtime.devices(DEVICE_PREFIX, signal);
    return devices
      .filter(d => !known.has(d.device))
      .map(d => ({ kind: 'device', what: `${runtime.name}:${d.project}/${d.name} ${d.device} at ${d.target}` }));
  } catch (error) {
    signal.throwIfAborted();
    return [{ kind: 'unseen', what: `devices of ${runtime.name}: ${explain(error)}` }];
  }
}
