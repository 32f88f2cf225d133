/** The steps of an attach: snapshot -> device -> mount -> handoff. (The reservation is the intent itself: journal.begin.) */
import { hostRanges } from '../idmap/compose.ts';
import type { EngineDeps } from './deps.ts';
import type { Plan } from './model.ts';
import type { BlockDevice, Instance, Mounted, Runtime, Template } from './ports.ts';
import { internal } from './refuse.ts';
import type { Step } from './saga.ts';

export type Reserved = { readonly plan: Plan; readonly template?: Template; readonly instance?: Instance };
export type WithDevice = Reserved & { readonly device: BlockDevice };
export type WithMount = Reserved & { readonly mounted: Mounted };

/** How long to wait for a loop device to be free after the last unmount: udev may hold it for a moment. */
const RELEASE_TIMEOUT_MS = 2000;

export type Steps = ReturnType<typeof makeSteps>;

export function makeSteps(deps: EngineDeps) {
  const wrap = deps.wrapStep ?? (step => step);
  const { backend, mounter } = deps;

  const snapshot: Step<Reserved, Reserved> = {
    name: 'snapshot',
    do: async (input, signal) => {
      const { plan, template } = input;
      if (plan.snapshot === undefined) return input;
      if (!template) throw internal(plan, 'a snapshot was planned without its template');
      const sizeBytes = plan.source.kind === 'template' ? plan.source.sizeBytes : undefined;
      await backend.snapshot(template, plan.snapshot, { signal, ...(sizeBytes === undefined ? {} : { sizeBytes }) });
      return input;
    },
    undo: async plan => {
      if (plan.snapshot !== undefined && !plan.snapshotKept) await backend.removeSnapshot(plan.snapshot);
    },
  };

  const device: Step<Reserved, WithDevice> = {
    name: 'device',
    do: async (input, signal) => ({
      ...input,
      device: await mounter.openDevice(input.plan.image, {
        readOnly: input.plan.readOnly,
        // A snapshot that was kept has been written to since.
        ...(input.template && !input.plan.snapshotKept && { known: input.template }),
        signal,
      }),
    }),
    undo: async (plan, { lazy }) => {
      // A volume that another attachment has taken was never ours.
      if (deps.journal.withImage(plan.image.path).some(a => a.plan.id !== plan.id)) return;
      // A lazy unmount leaves the device to whoever still holds it; `recover` sees to the rest.
      await mounter.released(plan.image, { timeoutMs: lazy ? 0 : RELEASE_TIMEOUT_MS });
    },
  };

  const mount: Step<WithDevice, WithMount> = {
    name: 'mount',
    do: async ({ device: blockDevice, ...input }, signal) => {
      const { mountPath: path, idmap, idBase, readOnly, role, instanceMap } = input.plan;
      const spec = { path, idmap, idBase, readOnly, role, within: hostRanges(instanceMap) };
      return { ...input, mounted: await mounter.mount(blockDevice, spec, signal) };
    },
    undo: (plan, { lazy }) => mounter.unmount(plan.mountPath, { lazy }),
  };

  const handoff: Step<WithMount, WithMount> = {
    name: 'handoff',
    do: async (input, signal) => {
      const { plan, instance } = input;
      if (plan.handoff === 'none') return input;
      if (!instance) throw internal(plan, 'a handoff was planned without its instance');
      const { deviceName: name, mountPath: hostPath, target, readOnly } = plan;
      await runtimeOf(deps, plan).addDevice(instance, { name, hostPath, target, readOnly }, signal);
      return input;
    },
    undo: async (plan, { signal }) => {
      if (plan.handoff === 'device') await runtimeOf(deps, plan).removeDevice(plan.ref, plan.deviceName, signal);
    },
  };

  const steps = { snapshot: wrap(snapshot), device: wrap(device), mount: wrap(mount), handoff: wrap(handoff) };
  /** In the order in which they are done. */
  return { ...steps, all: [steps.snapshot, steps.device, steps.mount, steps.handoff] as const };
}

export function runtimeOf(deps: EngineDeps, plan: Plan): Runtime {
  const runtime = deps.runtimes.find(r => r.name === plan.runtime);
  if (!runtime) throw internal(plan, `its runtime "${plan.runtime}" is not configured`);
  return runtime;
}
