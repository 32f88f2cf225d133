import type { EngineDeps } from './deps.ts';
import type { InstanceKey, InstanceRef } from './model.ts';
import type { Instance } from './ports.ts';

export type Resolved = { readonly key: InstanceKey; readonly instance: Instance | undefined };

/**
 * Which instance is meant. One that no runtime knows (not made yet, or deleted already) goes by the name under which the journal
 * has it, else by the name as given.
 */
export async function resolve(deps: EngineDeps, ref: InstanceRef, signal: AbortSignal): Promise<Resolved> {
  for (const runtime of deps.runtimes) {
    const instance = await runtime.find(ref, signal);
    if (instance) return { key: instance.key, instance };
  }
  const named = (
    ref.project === undefined || ref.project === 'default' ? ref.ref : `${ref.project}/${ref.ref}`
  ) as InstanceKey;
  if (deps.journal.allocation(named) || deps.journal.list(named).length > 0) return { key: named, instance: undefined };
  const known = deps.journal
    .withRef(ref.ref)
    .find(({ plan }) => (plan.ref.project ?? 'default') === (ref.project ?? 'default'));
  return { key: known?.plan.instance ?? named, instance: undefined };
}
