/** Arguments as Nova's driver sends them. */
import assert from 'node:assert/strict';
import { RemoteError, type RpcArgs } from '../../../src/bus/rpc/endpoint.ts';

export const UUID = '0c0ffee0-0000-4000-8000-00000000000c';
export const IMAGE = '1a6e0000-0000-4000-8000-000000000001';
export const VOLUME = '701a0000-0000-4000-8000-000000000001';
export const OTHER_VOLUME = '701a0000-0000-4000-8000-000000000002';
export const GIB = 2 ** 30;
export const never = new AbortController().signal;

/** The class that Nova would see, and its text. */
export async function raises(work: Promise<unknown>): Promise<RemoteError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof RemoteError, `raises: ${error}`);
  return error;
}

export function instance(more: object = {}): object {
  return {
    uuid: UUID,
    name: 'instance-0000000c',
    display_name: 'web server',
    hostname: 'web',
    project_id: 'p1',
    user_id: 'u1',
    host: 'node1',
    node: 'node1',
    image_ref: IMAGE,
    metadata: {},
    system_metadata: {},
    flavor: {
      name: 'm1',
      flavorid: '1',
      vcpus: 2,
      memory_mb: 512,
      root_gb: 3,
      ephemeral_gb: 0,
      swap: 0,
      extra_specs: {},
    },
    user_data: null,
    config_drive: '',
    power_state: null,
    vm_state: 'building',
    task_state: 'spawning',
    ...more,
  };
}
export const flavor = (more: object = {}) => ({
  name: 'm1',
  vcpus: 2,
  memory_mb: 512,
  root_gb: 3,
  extra_specs: {},
  ...more,
});

export function connectionInfo(volumeId = VOLUME, more: object = {}): object {
  return {
    driver_volume_type: 'nfs',
    data: {
      export: '10.0.0.1:/export',
      name: `volume-${volumeId}`,
      format: 'raw',
      access_mode: 'rw',
      encrypted: false,
      ...more,
    },
    status: 'reserved',
    serial: volumeId,
  };
}
export function devices(...volumes: readonly { id: string; boot?: boolean }[]): object {
  return {
    root_device_name: '/dev/sda',
    image: [],
    ephemerals: [],
    swap: null,
    block_device_mapping: volumes.map(({ id, boot = false }, i) => ({
      connection_info: connectionInfo(id),
      mount_device: `/dev/sd${'bcdef'[i]}`,
      attachment_id: id,
      delete_on_termination: false,
      boot_index: boot ? 0 : null,
    })),
  };
}
export const spawnArgs = (more: object = {}): RpcArgs => ({
  instance: instance(),
  image_meta: {
    id: IMAGE,
    name: 'busybox',
    disk_format: 'raw',
    container_format: 'bare',
    size: GIB,
    min_disk: 0,
    properties: {},
  },
  injected_files: [],
  allocations: {},
  network_info: [],
  block_device_info: devices(),
  power_on: true,
  accel_info: [],
  ...more,
});
