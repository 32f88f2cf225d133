import type { InstanceKey } from '../../src/engine/model.ts';
import type { Runtime, RuntimeDevice } from '../../src/engine/ports.ts';
import { bothKinds } from '../../src/idmap/compose.ts';

const FIRST_HOST_ID = 200_000;
const COUNT = 65_536;

/** A runtime without containers: the test machine has none. Every name is an instance that is stopped, and after a boot none has a device. */
export function stoppedInstances(): Runtime {
  const devices = new Map<string, RuntimeDevice>();
  const runtime: Runtime = {
    name: 'stopped',
    find: async ({ ref }) => ({
      key: ref as InstanceKey,
      runtime: runtime.name,
      project: 'default',
      name: ref,
      running: false,
      idmap: bothKinds(0, FIRST_HOST_ID, COUNT),
    }),
    addDevice: async ({ key, project, name: instance }, { name: device, hostPath, target }) => {
      devices.set(device, { instance: key, project, name: instance, device, hostPath, target });
    },
    removeDevice: async (_ref, name) => void devices.delete(name),
    devices: async prefix => [...devices.values()].filter(({ device }) => device.startsWith(prefix)),
    usedRanges: async () => [],
  };
  return runtime;
}
