/** From Nova's instance to a container of this host and back. */
import type { MachineNetwork, MachineSpec } from '../container/machines.ts';
import type { InstanceKey, InstanceRef } from '../engine/model.ts';
import { ShiftvolError } from '../errors.ts';
import type { IdRange } from '../idmap/idmap.ts';
import type { Flavor, NetworkPort, NovaInstance } from './model.ts';
import type { Call, Nova } from './ports.ts';

/** What a container may be called; `instance_name_template` may give other names. */
const CONTAINER_NAME = /^[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]$/;
/** Extra specs that begin with this are keys of the runtime: `lxd:security.nesting`. Which are accepted, the runtime's part knows. */
const RUNTIME_SPEC = 'lxd:';

export const refOf = ({ uuid }: NovaInstance): InstanceRef => ({ ref: uuid });
/** The engine keeps what has a uuid under it. */
export const keyOf = ({ uuid }: NovaInstance): InstanceKey => uuid as InstanceKey;

/** Makes the container, stopped and without a root file system; there already is success. @throws what Machines.create throws */
export async function makeMachine(
  nova: Nova,
  instance: NovaInstance,
  ports: readonly NetworkPort[],
  { signal }: Call,
): Promise<void> {
  const ref = refOf(instance);
  const { uid, gid } = await nova.engine.reserveIds(ref, {}, false, signal);
  if (uid.start !== gid.start)
    throw new ShiftvolError(
      'SV_HOST',
      `Cannot make "${instance.name}": its users would begin at ${uid.start} and its groups at ${gid.start}, the runtime takes one number for both`,
      { remedy: 'give /etc/subuid and /etc/subgid the same ranges' },
    );
  await nova.machines.create(specOf(instance, ports, uid), signal);
}

export function specOf(instance: NovaInstance, ports: readonly NetworkPort[], idRange: IdRange): MachineSpec {
  const { uuid, name, displayName, hostname, projectId, userData } = instance;
  const flavor = requireFlavor(instance);
  return {
    name: CONTAINER_NAME.test(name) ? name : `i-${uuid}`,
    uuid,
    displayName,
    vcpus: flavor.vcpus,
    memoryMb: flavor.memoryMb,
    config: runtimeConfig(flavor),
    networks: ports.map(networkOf),
    idRange,
    ...(projectId === undefined ? {} : { projectId }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(userData === undefined ? {} : { userData }),
  };
}

/** The keys of the runtime that a flavor sets. */
export function runtimeConfig({ extraSpecs }: Flavor): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(extraSpecs)
      .filter(([key]) => key.startsWith(RUNTIME_SPEC))
      .map(([key, value]) => [key.slice(RUNTIME_SPEC.length), value]),
  );
}

/** @throws SV_MESSAGE: Nova did not send it */
export function requireFlavor({ flavor, uuid }: NovaInstance): Flavor {
  if (flavor) return flavor;
  throw new ShiftvolError('SV_MESSAGE', `Cannot tell the size of instance "${uuid}": "instance.flavor" is null`, {
    field: 'instance.flavor',
  });
}

/** A Linux bridge is entered by the runtime; the host's end for Open vSwitch is plugged by its agent. */
function networkOf({ mac, type, bridge, hostName, mtu }: NetworkPort, index: number): MachineNetwork {
  if (type === 'unbound' || type === 'binding_failed')
    throw new ShiftvolError('SV_RUNTIME', `Cannot connect port ${mac} to its network: Neutron says "${type}"`, {
      field: `network_info[${index}].type`,
      remedy: 'see whether the agent of Neutron runs on this host',
    });
  return {
    name: `eth${index}`,
    mac,
    ...(type === 'bridge' && bridge !== undefined ? { bridge } : {}),
    ...(hostName === undefined ? {} : { hostName }),
    ...(mtu === undefined ? {} : { mtu }),
  };
}
