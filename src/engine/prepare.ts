/** What commands mean here and now: which attachment, which template, which plan. Looks, and changes nothing. */
import { ShiftvolError } from '../errors.ts';
import type { EngineDeps } from './deps.ts';
import {
  type AttachCommand,
  type Attachment,
  type DestroyCommand,
  type DetachCommand,
  type InstanceKey,
  type Plan,
  rootSource,
  type Source,
  type SpawnCommand,
  sourceName,
} from './model.ts';
import { attachmentId, isReadOnly, type PlanContext, planAttach } from './plan.ts';
import type { Template } from './ports.ts';
import {
  attachmentNotFound,
  instanceNotFound,
  mountedElsewhere,
  readOnlyGrowth,
  targetTaken,
  volumeInUse,
} from './refuse.ts';
import type { Resolved } from './resolve.ts';
import type { Reserved } from './steps.ts';
import { requireTarget } from './target.ts';

/** All is so already. */
export type Existing = { readonly existing: Attachment };
export type SpawnContext = { readonly context: PlanContext };
/** What to do about an attachment that an earlier run left half way: ended first, or (for a dry run) refused. */
export type Settle = (attachment: Attachment | undefined) => Promise<Attachment | undefined>;

/** @throws SV_TARGET_INVALID, SV_INSTANCE_NOT_FOUND, SV_TARGET_TAKEN, SV_TEMPLATE_NOT_FOUND, SV_VOLUME_IN_USE */
export async function prepareAttach(
  deps: EngineDeps,
  command: AttachCommand,
  { instance }: Resolved,
  settle: Settle,
): Promise<Reserved | Existing> {
  const target = requireTarget(command.target);
  if (!instance) throw instanceNotFound(command.instance, deps.host);
  if (command.source.kind === 'template' && command.source.sizeBytes !== undefined && command.readOnly)
    throw readOnlyGrowth();
  const existing = await settle(deps.journal.find(attachmentId(instance.key, target)));
  const { source } = command;
  if (existing && !sameRequest(existing.plan, source, isReadOnly(command))) throw targetTaken(existing);
  if (existing?.status.state === 'attached') return { existing };
  const template = source.kind === 'template' ? await deps.backend.getTemplate(source.template) : undefined;
  const plan = planAttach(command, target, instance, contextOf(deps, existing, template));
  const holder = template ? undefined : deps.journal.withImage(plan.image.path).find(a => a.plan.id !== plan.id);
  if (holder) throw volumeInUse(plan, holder);
  const { secrets } = command;
  return { plan, instance, ...(template && { template }), ...(secrets && { secrets }) };
}

/** @throws SV_TARGET_TAKEN, SV_TEMPLATE_NOT_FOUND, SV_VOLUME_IN_USE */
export async function prepareSpawn(
  deps: EngineDeps,
  command: SpawnCommand,
  { key, instance }: Resolved,
  settle: Settle,
): Promise<SpawnContext | Existing> {
  const source = rootSource(command);
  const id = attachmentId(key, '/');
  const existing = await settle(deps.journal.find(id));
  const rootPath = instance?.rootPath;
  if (existing && !sameRequest(existing.plan, source, isReadOnly({ source, readOnly: false })))
    throw targetTaken(existing);
  if (existing?.status.state === 'attached') {
    if (rootPath !== undefined && rootPath !== existing.plan.mountPath) throw mountedElsewhere(existing, rootPath);
    return { existing };
  }
  const template = source.kind === 'template' ? await deps.backend.getTemplate(source.template) : undefined;
  const holder = template ? undefined : deps.journal.withImage(sourceName(source)).find(a => a.plan.id !== id);
  if (holder) throw volumeInUse({ image: { path: sourceName(source) } }, holder);
  return { context: { ...contextOf(deps, existing, template), ...(rootPath !== undefined && { rootPath }) } };
}

/** One, or with `all` every volume that is attached, the last one first. @throws SV_ATTACHMENT_NOT_FOUND; SV_USAGE: the root file system */
export function findToDetach(deps: EngineDeps, command: DetachCommand, key: InstanceKey): readonly Attachment[] {
  if (command.all !== true) return [findOneToDetach(deps, command, key)];
  const { until } = command;
  const volumes = deps.journal
    .list(key)
    .filter(a => a.plan.role === 'volume' && a.status.state !== 'detached')
    .filter(a => until === undefined || a.createdAt <= until);
  if (volumes.length === 0) throw attachmentNotFound(`"${command.instance.ref}"`);
  // One may be mounted below another.
  return volumes.toSorted((a, b) => b.plan.target.length - a.plan.target.length);
}

function findOneToDetach(deps: EngineDeps, command: DetachCommand, key: InstanceKey): Attachment {
  if (command.target === '/')
    throw new ShiftvolError('SV_USAGE', `Cannot detach the root file system of "${key}"`, {
      field: 'target',
      remedy: 'use destroy',
    });
  const target = command.target === undefined ? undefined : requireTarget(command.target);
  const wanted = ({ plan }: Attachment) =>
    target === undefined ? plan.volumeId === command.volumeId : plan.target === target;
  const found = deps.journal.list(key).find(wanted);
  if (found && found.status.state !== 'detached') return found;
  throw attachmentNotFound(`"${command.instance.ref}:${target ?? command.volumeId}"`);
}

/** The root file system comes last: volumes may be mounted below it. @throws SV_ATTACHMENT_NOT_FOUND */
export function findToDestroy(deps: EngineDeps, command: DestroyCommand, key: InstanceKey): readonly Attachment[] {
  const { target } = command;
  if (target !== undefined && target !== '/') requireTarget(target);
  const mine = deps.journal.list(key).filter(a => target === undefined || a.plan.target === target);
  if (mine.length === 0 && (target !== undefined || !deps.journal.allocation(key)))
    throw attachmentNotFound(`"${command.instance.ref}${target === undefined ? '' : `:${target}`}"`);
  return mine.toSorted((a, b) => Number(a.plan.role === 'root') - Number(b.plan.role === 'root'));
}

function contextOf(
  { runDir, backend }: EngineDeps,
  existing: Attachment | undefined,
  template: Template | undefined,
): PlanContext {
  return { runDir, backend, ...(template && { template }), ...(existing && { existing }) };
}

function sameRequest(plan: Plan, source: Source, readOnly: boolean): boolean {
  if (plan.readOnly !== readOnly || plan.source.kind !== source.kind) return false;
  return sourceName(plan.source) === sourceName(source);
}
