import { existsSync, mkdirSync, readdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import type { Connection } from '../../../src/engine/model.ts';
import { readConnection } from '../../../src/storage/connect/info.ts';
import { MiB, type Service } from '../contract.ts';
import { configure, growLoop, loopOf, run, SCRATCH } from '../guest.ts';

const SUBSYSTEM = 'nqn.2026-01.test.vm:volumes';
const CONFIG = '/sys/kernel/config/nvmet';
const SIZE = 64 * MiB;

/** Where the target listens, by the numbers of its ports. */
const PORTS = [
  { adrfam: 'ipv4', address: '127.0.0.1' },
  { adrfam: 'ipv4', address: '127.0.0.2' },
  { adrfam: 'ipv6', address: '::1' },
] as const;
export const [FIRST, SECOND, IPV6] = ['127.0.0.1', '127.0.0.2', '::1'] as const;
/** Nobody listens there. */
export const DEAD = '127.0.0.9';

type Portals = readonly [string, ...string[]];

/** As Cinder says it, in its newer format or in the older one, which has one portal. */
export function nvmeInfo(number: number, by: 'uuid' | 'number', portals: Portals, more: object = {}): Connection {
  const newer = {
    target_nqn: SUBSYSTEM,
    portals: portals.map(at => [at, '4420', 'tcp']),
    vol_uuid: uuidOf(number),
    ns_id: null,
  };
  const older = { nqn: SUBSYSTEM, target_portal: portals[0], target_port: 4420, transport_type: 'tcp', ns_id: number };
  const data = { ...(by === 'uuid' ? newer : older), ...more };
  return readConnection({ driver_volume_type: 'nvmeof', serial: `id-${by}-${number}`, data }).connection;
}

const uuidOf = (number: number): string => `5f2c4d10-0000-4000-8000-${String(number).padStart(12, '0')}`;

let count = 0;

/** The kernel's target over TCP, set up through configfs: one subsystem whose namespaces are the volumes. */
export function nvmetService(by: 'uuid' | 'number', portals: Portals = [FIRST]): Service {
  return {
    start() {
      for (const module of ['nvmet', 'nvmet-tcp', 'nvme-tcp']) run('modprobe', module);
      configure(`${CONFIG}/subsystems/${SUBSYSTEM}`, { attr_allow_any_host: 1 });
      for (const [i, { adrfam, address }] of PORTS.entries()) {
        const port = `${CONFIG}/ports/${i + 1}`;
        if (existsSync(port)) continue;
        configure(port, { addr_trtype: 'tcp', addr_adrfam: adrfam, addr_traddr: address, addr_trsvcid: '4420' });
        setPortal(address, 'up');
      }
    },
    volume() {
      const number = ++count;
      const file = `${SCRATCH}/nvme-${number}.img`;
      const device = loopOf(file, SIZE);
      const namespace = `${CONFIG}/subsystems/${SUBSYSTEM}/namespaces/${number}`;
      mkdirSync(namespace);
      configure(namespace, { device_path: device, device_uuid: uuidOf(number), enable: 1 });
      return {
        connection: nvmeInfo(number, by, portals),
        sizeBytes: SIZE,
        missing: nvmeInfo(999, by, portals),
        grow: size => {
          growLoop(device, file, size);
          writeFileSync(`${namespace}/revalidate_size`, '1');
        },
      };
    },
    traces: () => nvmeControllers(),
  };
}

export function nvmeControllers(): readonly string[] {
  return existsSync('/sys/class/nvme') ? readdirSync('/sys/class/nvme') : [];
}

/** Whether the volumes can be reached there; who is connected there when it goes down has one path less. */
export function setPortal(address: string, state: 'up' | 'down'): void {
  const port = PORTS.findIndex(each => each.address === address) + 1;
  const shown = `${CONFIG}/ports/${port}/subsystems/${SUBSYSTEM}`;
  if (state === 'down') unlinkSync(shown);
  else symlinkSync(`${CONFIG}/subsystems/${SUBSYSTEM}`, shown);
}
