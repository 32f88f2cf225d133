/** An image that came from another host becomes what an instance has here. */
import { asError } from '../errors.ts';
import { releasedWith, takeBack } from './attach.ts';
import type { EngineDeps } from './deps.ts';
import type { Attachment, InstanceRef, Plan } from './model.ts';
import { attachmentId, mapOfAllocation, planAttach, planSpawn } from './plan.ts';
import type { Allocation, Also } from './ports.ts';
import type { Settle } from './prepare.ts';
import { attachmentNotFound, instanceNotFound, targetTaken } from './refuse.ts';
import type { Resolved } from './resolve.ts';
import { requireTarget } from './target.ts';

/** `image`: a file of the pool's `incoming/`, with all that differs from the template in it. */
export type Adoption = {
  readonly instance: InstanceRef;
  readonly role: Plan['role'];
  readonly target: string;
  readonly template: string;
  readonly readOnly: boolean;
  readonly image: string;
};

/**
 * The intent is on the disk before the image has its second name, and the image keeps its first one: cut off anywhere, recover takes
 * the second name away, and what was received is still there to be taken over.
 */
export async function adopt(
  deps: EngineDeps,
  adoption: Adoption,
  resolved: Resolved,
  settle: Settle,
  signal: AbortSignal,
): Promise<Attachment> {
  const { journal, backend } = deps;
  const target = adoption.role === 'root' ? '/' : requireTarget(adoption.target);
  const existing = await settle(journal.find(attachmentId(resolved.key, target)));
  if (existing) throw targetTaken(existing);
  const plan = await begin(deps, { ...adoption, target }, resolved, signal);
  await journal.flushed();
  try {
    await backend.adoptSnapshot(adoption.image, plan.snapshot ?? '');
  } catch (thrown) {
    const undo = async () => {
      if (plan.snapshot !== undefined) await backend.removeSnapshot(plan.snapshot);
    };
    await takeBack(deps, plan, asError(thrown), undo, releasedWith(journal, plan));
    throw thrown;
  }
  journal.settle(plan.id, { state: 'detached', detachedAt: new Date().toISOString() }, {});
  await journal.flushed();
  const adopted = journal.find(plan.id);
  if (adopted) return adopted;
  throw attachmentNotFound(`"${resolved.key}:${target}"`);
}

async function begin(deps: EngineDeps, adoption: Adoption, resolved: Resolved, signal: AbortSignal): Promise<Plan> {
  const { journal, backend, runDir, allocator } = deps;
  const { instance: ref, role, target, readOnly } = adoption;
  const { key, instance } = resolved;
  const template = await backend.getTemplate(adoption.template);
  const source = { kind: 'template', template: template.name } as const;
  const context = { runDir, backend, template };
  const noted = (plan: Plan, also: Also = {}) => {
    journal.begin(plan, also);
    return plan;
  };
  if (role === 'volume') {
    if (!instance) throw instanceNotFound(ref, deps.host);
    return noted(planAttach({ action: 'attach', instance: ref, target, source, readOnly }, target, instance, context));
  }
  const planned = (map: Plan['instanceMap']) =>
    planSpawn({ action: 'spawn', instance: ref, source }, key, map, context);
  if (instance) return noted(planned(instance.idmap));
  let plan: Plan | undefined;
  const fresh = (allocate: Allocation) => {
    plan = noted(planned(mapOfAllocation(allocate)), { allocate });
  };
  const mine = await allocator.allocate(key, { signal }, fresh).catch((error: unknown) => {
    // Nothing has been done yet but the intent.
    if (plan) journal.remove(plan.id, {});
    throw error;
  });
  return plan ?? noted(planned(mapOfAllocation(mine)));
}
