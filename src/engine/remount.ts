/** What is attached and not mounted any more is mounted again: a reboot took it, or somebody unmounted it. */
import { isDeepStrictEqual } from 'node:util';
import type { EngineDeps } from './deps.ts';
import type { Attachment, Plan, Source } from './model.ts';
import { anotherFileSystem } from './refuse.ts';
import type { Secrets } from './secrets.ts';
import type { Steps } from './steps.ts';

/**
 * Connection, device and mount are done again: after a reboot they are made anew, else that changes nothing and tells what the journal must know.
 * The runtime is not asked: its configuration has the device, and it must find the mount there when it starts the instance.
 * @throws SV_VOLUME_NOT_FOUND: by now something else is found where the volume was
 */
export async function mountAgain(
  deps: EngineDeps,
  steps: Steps,
  plan: Plan,
  signal: AbortSignal,
  secrets?: Secrets,
): Promise<void> {
  const reserved = { plan, ...(secrets && { secrets }) };
  const ready = plan.source.kind === 'connection' ? await steps.connect.do(reserved, signal) : reserved;
  const opened = await steps.device.do(ready, signal);
  await using device = opened.device;
  requireSame(plan, deps.journal.find(plan.id), device.uuid);
  await steps.mount.do(opened, signal);
  const { path, fsType, uuid: fsUuid } = device;
  const attachedAt = new Date().toISOString();
  deps.journal.settle(plan.id, { state: 'attached', device: path, fsType, fsUuid, attachedAt }, {});
}

/**
 * For a command that asks for what is attached already: `recover` may not have been able to mount it, since the storage was away, or wants
 * a secret that only the command brings. Where the volume is reached by now, the command knows better than the journal.
 */
export async function mountIfGone(
  deps: EngineDeps,
  steps: Steps,
  existing: Attachment,
  asked: { readonly source: Source; readonly secrets?: Secrets },
  signal: AbortSignal,
): Promise<void> {
  const { plan, status } = existing;
  if (await deps.mounter.inspect(plan.mountPath)) return;
  const renewed = { ...plan, source: reachedBy(plan.source, asked.source) };
  if (renewed.source !== plan.source) {
    await steps.connect.undo(plan, { lazy: false, signal });
    deps.journal.begin(renewed, {});
    deps.journal.settle(plan.id, status, {});
  }
  await mountAgain(deps, steps, renewed, signal, asked.secrets);
}

function reachedBy(before: Source, now: Source): Source {
  if (before.kind !== 'connection' || now.kind !== 'connection') return before;
  return isDeepStrictEqual(before.connection, now.connection) ? before : { ...before, connection: now.connection };
}

/** A name such as /dev/sdb and a LUN may be another volume's after a reboot, and perhaps another user's. */
function requireSame(plan: Plan, known: Attachment | undefined, fsUuid: string): void {
  if (plan.source.kind === 'template' || known?.status.state !== 'attached') return;
  const before = known.status.fsUuid;
  if (before !== undefined && before !== fsUuid) throw anotherFileSystem(plan, before, fsUuid);
}
