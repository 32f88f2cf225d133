/** The steps of an attach: connect | snapshot -> device -> mount -> handoff. (The reservation is the intent itself: journal.begin.) */
import { hostRanges } from '../idmap/compose.ts';
import type { EngineDeps } from './deps.ts';
import type { Plan } from './model.ts';
import type { BlockDevice, ImageRef, Instance, Mounted, Runtime, Template } from './ports.ts';
import { internal } from './refuse.ts';
import type { Step } from './saga.ts';
import type { Secrets } from './secrets.ts';

export type Reserved = {
  readonly plan: Plan;
  readonly template?: Template;
  readonly instance?: Instance;
  /** For the connection of this plan. */
  readonly secrets?: Secrets;
  /** What was connected: the plan knows its name only. */
  readonly connected?: ImageRef;
  /** Of a snapshot that was ready beforehand. */
  readonly staged?: BlockDevice;
};
export type WithDevice = Reserved & { readonly device: BlockDevice };
export type WithMount = Reserved & { readonly mounted: Mounted };

/** How long to wait for a loop device to be free after the last unmount: udev may hold it for a moment. */
const RELEASE_TIMEOUT_MS = 2000;

export type Steps = ReturnType<typeof makeSteps>;

export function makeSteps(deps: EngineDeps) {
  const wrap = deps.wrapStep ?? (step => step);
  const { backend, connections, mounter, spares } = deps;
  /** A volume that another attachment has taken was never this plan's. A snapshot is nobody else's: it has the attachment's name. */
  const isTaken = ({ id, snapshot, image }: Plan) =>
    snapshot === undefined && deps.journal.withImage(image.path).some(a => a.plan.id !== id);

  const connect: Step<Reserved, Reserved> = {
    name: 'connect',
    do: async ({ secrets, ...input }, signal) => {
      const { source } = input.plan;
      if (source.kind !== 'connection') return input;
      return {
        ...input,
        connected: await connections.connect(source.connection, { signal, ...(secrets && { secrets }) }),
      };
    },
    undo: async (plan, { signal }) => {
      if (plan.source.kind !== 'connection' || isTaken(plan)) return;
      await connections.disconnect(plan.source.connection, signal ? { signal } : {});
    },
  };

  const snapshot: Step<Reserved, Reserved> = {
    name: 'snapshot',
    do: async (input, signal) => {
      const { plan, template } = input;
      if (plan.snapshot === undefined) return input;
      if (!template) throw internal(plan, 'a snapshot was planned without its template');
      const sizeBytes = plan.source.kind === 'template' ? plan.source.sizeBytes : undefined;
      const isFresh = !plan.readOnly && !plan.snapshotKept;
      const staged =
        spares && isFresh && backend.spares.canBe(template, sizeBytes)
          ? spares.take(template, plan.snapshot)
          : undefined;
      if (staged && sizeBytes !== undefined) await mounter.enlarge(plan.image, sizeBytes, staged);
      if (staged) return { ...input, staged };
      await backend.snapshot(template, plan.snapshot, { signal, ...(sizeBytes === undefined ? {} : { sizeBytes }) });
      return input;
    },
    undo: async plan => {
      if (plan.snapshot === undefined || plan.snapshotKept) return;
      await spares?.drop(plan.snapshot);
      await backend.removeSnapshot(plan.snapshot);
    },
  };

  const device: Step<Reserved, WithDevice> = {
    name: 'device',
    do: async (input, signal) => ({
      ...input,
      device:
        input.staged ??
        (await mounter.openDevice(input.connected ?? input.plan.image, {
          readOnly: input.plan.readOnly,
          // A snapshot that was kept has been written to since.
          ...(input.template && !input.plan.snapshotKept && { known: input.template }),
          signal,
        })),
    }),
    undo: async (plan, { lazy, signal }) => {
      if (isTaken(plan)) return;
      const { source, snapshot: name } = plan;
      if (name !== undefined) await spares?.drop(name);
      const image = source.kind === 'connection' ? await connections.find(source.connection, signal) : plan.image;
      if (image === undefined) return;
      // A lazy unmount leaves the device to whoever still holds it; `recover` sees to the rest.
      await mounter.released(image, { timeoutMs: lazy ? 0 : RELEASE_TIMEOUT_MS });
    },
  };

  const mount: Step<WithDevice, WithMount> = {
    name: 'mount',
    do: async ({ device: blockDevice, ...input }, signal) => {
      const { mountPath: path, idmap, idBase, readOnly, role, instanceMap } = input.plan;
      const spec = { path, idmap, idBase, readOnly, role, within: hostRanges(instanceMap) };
      const mounted = await mounter.mount(blockDevice, spec, signal);
      if (input.plan.snapshot !== undefined) spares?.mounted(input.plan.snapshot);
      // Where a size was asked for, nobody sees it smaller. Elsewhere nothing is looked at: that would cost every attach.
      if (asksForSize(input.plan)) await mounter.grow(path, blockDevice.fsType);
      return { ...input, mounted };
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

  const steps = {
    connect: wrap(connect),
    snapshot: wrap(snapshot),
    device: wrap(device),
    mount: wrap(mount),
    handoff: wrap(handoff),
  };
  const mounting = [steps.device, steps.mount, steps.handoff] as const;
  const isConnected = ({ source }: Plan) => source.kind === 'connection';
  return {
    ...steps,
    /** Of this plan, in the order in which they are done. */
    all: (plan: Plan) => [isConnected(plan) ? steps.connect : steps.snapshot, ...mounting] as const,
    /** Those of them that a detach takes back: a snapshot is kept or removed by what the detach is for. */
    held: (plan: Plan) => [...(isConnected(plan) ? [steps.connect] : []), ...mounting] as const,
  };
}

function asksForSize({ source }: Plan): boolean {
  return source.kind === 'template' && source.sizeBytes !== undefined;
}

export function runtimeOf(deps: EngineDeps, plan: Plan): Runtime {
  const runtime = deps.runtimes.find(r => r.name === plan.runtime);
  if (!runtime) throw internal(plan, `its runtime "${plan.runtime}" is not configured`);
  return runtime;
}
