import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { readConnection } from '../../../src/storage/connect/info.ts';
import { MiB, type Service } from '../contract.ts';
import { configure, growLoop, loopOf, run, SCRATCH } from '../guest.ts';

const SUBSYSTEM = 'nqn.2026-01.test.vm:volumes';
const CONFIG = '/sys/kernel/config/nvmet';
const SIZE = 64 * MiB;

/** The kernel's target over TCP, set up through configfs: one subsystem whose namespaces are the volumes. */
export function nvmetService(by: 'uuid' | 'number'): Service {
  let count = 0;
  const uuidOf = (number: number) => `5f2c4d10-0000-4000-8000-${String(number).padStart(12, '0')}`;
  const info = (name: string, number: number) =>
    readConnection({
      driver_volume_type: 'nvmeof',
      serial: `id-${name}`,
      data:
        by === 'uuid'
          ? { target_nqn: SUBSYSTEM, vol_uuid: uuidOf(number), portals: [['127.0.0.1', '4420', 'tcp']], ns_id: null }
          : { nqn: SUBSYSTEM, target_portal: '127.0.0.1', target_port: 4420, transport_type: 'tcp', ns_id: number },
    }).connection;
  return {
    start() {
      for (const module of ['nvmet', 'nvmet-tcp', 'nvme-tcp']) run('modprobe', module);
      configure(`${CONFIG}/subsystems/${SUBSYSTEM}`, { attr_allow_any_host: 1 });
      const port = `${CONFIG}/ports/1`;
      if (existsSync(port)) return;
      configure(port, { addr_trtype: 'tcp', addr_adrfam: 'ipv4', addr_traddr: '127.0.0.1', addr_trsvcid: '4420' });
      symlinkSync(`${CONFIG}/subsystems/${SUBSYSTEM}`, `${port}/subsystems/${SUBSYSTEM}`);
    },
    volume(name) {
      const number = ++count + (by === 'uuid' ? 0 : 100);
      const file = `${SCRATCH}/nvme-${number}.img`;
      const device = loopOf(file, SIZE);
      const namespace = `${CONFIG}/subsystems/${SUBSYSTEM}/namespaces/${number}`;
      mkdirSync(namespace);
      configure(namespace, { device_path: device, device_uuid: uuidOf(number), enable: 1 });
      return {
        connection: info(`${name}-${number}`, number),
        sizeBytes: SIZE,
        missing: info('none', 999),
        grow: size => {
          growLoop(device, file, size);
          writeFileSync(`${namespace}/revalidate_size`, '1');
        },
      };
    },
    traces: () => (existsSync('/sys/class/nvme') ? readdirSync('/sys/class/nvme') : []),
  };
}
