/** Containers, in memory. */
import type { Diagnostics, Machine, MachineSpec, Machines, PowerState } from '../../../src/container/machines.ts';
import type { InstanceKey } from '../../../src/engine/model.ts';
import { ShiftvolError } from '../../../src/errors.ts';
import { bothKinds } from '../../../src/idmap/compose.ts';
import type { Note } from '../../../src/nova/ports.ts';

export type MachineState = {
  readonly machines: Map<string, { spec: MachineSpec; state: PowerState; vcpus: number; memoryMb: number }>;
  readonly notes: Map<string, Note>;
  /** That it is done, unless it shall fail. */
  note(what: string): void;
};

export function fakeMachines(host: MachineState): Machines {
  const get = (ref: string) => {
    const machine = host.machines.get(ref);
    if (machine) return machine;
    throw new ShiftvolError('SV_INSTANCE_NOT_FOUND', `Cannot find instance "${ref}"`);
  };
  const bring = (ref: string, what: string, state: PowerState, signal: AbortSignal) => {
    signal.throwIfAborted();
    const machine = get(ref);
    if (machine.state === state) return;
    host.note(what);
    machine.state = state;
  };
  return {
    create: async spec => {
      const { uuid, vcpus, memoryMb } = spec;
      if (!host.machines.has(uuid)) {
        host.note('create');
        host.machines.set(uuid, { spec, state: 'stopped', vcpus, memoryMb });
      }
      const idmap = bothKinds(0, 1_000_000, 65_536);
      return {
        key: uuid as InstanceKey,
        runtime: 'fake',
        project: 'default',
        name: spec.name,
        running: false,
        idmap,
      };
    },
    start: async ({ ref }, signal) => bring(ref, 'start', 'running', signal),
    stop: async ({ ref }, { timeoutMs, force }, signal) =>
      bring(ref, `stop ${force ? 'now' : timeoutMs}`, 'stopped', signal),
    freeze: async ({ ref }, signal) => bring(ref, 'freeze', 'paused', signal),
    unfreeze: async ({ ref }, signal) => bring(ref, 'unfreeze', 'running', signal),
    remove: async ({ ref }) => {
      if (!host.machines.has(ref)) return;
      host.note('remove');
      host.machines.delete(ref);
      host.notes.delete(ref);
    },
    power: async ({ ref }) => host.machines.get(ref)?.state,
    list: async () =>
      [...host.machines].map(
        ([uuid, { spec, state, vcpus, memoryMb }]): Machine => ({
          name: spec.name,
          uuid,
          displayName: spec.displayName,
          state,
          vcpus,
          memoryMb,
        }),
      ),
    console: async ({ ref }) => {
      get(ref);
      return 'booting\n';
    },
    diagnostics: async ({ ref }): Promise<Diagnostics> => ({
      state: get(ref).state,
      cpuNs: 1,
      memoryBytes: 2,
      memoryPeakBytes: 3,
      pids: 4,
      networks: [{ name: 'eth0', mac: '', rxBytes: 5, txBytes: 6, rxPackets: 7, txPackets: 8 }],
    }),
    update: async ({ ref }, { vcpus, memoryMb }) => {
      const machine = get(ref);
      host.note(`limit ${vcpus} ${memoryMb}`);
      Object.assign(machine, { vcpus, memoryMb });
    },
  };
}
