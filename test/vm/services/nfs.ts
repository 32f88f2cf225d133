import { readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { readMountinfo } from '../../../src/mount/mountinfo.ts';
import { readConnection } from '../../../src/storage/connect/info.ts';
import { MiB, type Service } from '../contract.ts';
import { run, SCRATCH, sparseFile } from '../guest.ts';

const EXPORT = `${SCRATCH}/export`;
const SIZE = 64 * MiB;

/** The kernel's own server, which exports to this very machine. */
export function nfsService(format: 'raw' | 'qcow2'): Service {
  const info = (name: string) =>
    readConnection({
      driver_volume_type: 'nfs',
      serial: `id-${name}`,
      data: { export: '127.0.0.1:/', name, format, options: '-o vers=4.2', mount_point_base: '/var/lib/cinder/mnt' },
    }).connection;
  return {
    start() {
      if (readMountinfo('/proc').some(m => m.point === '/proc/fs/nfsd')) return;
      for (const dir of ['/run/rpcbind', '/var/lib/nfs/v4recovery', EXPORT]) run('mkdir', '-p', dir);
      for (const module of ['nfsd', 'nfs', 'nbd']) run('modprobe', module);
      run('mount', '-t', 'nfsd', 'nfsd', '/proc/fs/nfsd');
      run('rpcbind', '-w');
      writeFileSync('/etc/exports', `${EXPORT} *(rw,no_root_squash,no_subtree_check,insecure,fsid=0)\n`);
      run('exportfs', '-ra');
      run('rpc.nfsd', '-N', '3', '2');
      run('rpc.mountd');
    },
    volume(name) {
      const file = `${EXPORT}/${format}-${name}`;
      if (format === 'raw') sparseFile(file, SIZE);
      else run('qemu-img', 'create', '-q', '-f', 'qcow2', file, String(SIZE));
      return {
        connection: info(`${format}-${name}`),
        sizeBytes: SIZE,
        missing: info(`${format}-none`),
        grow: size =>
          format === 'raw'
            ? truncateSync(file, size)
            : run('qemu-img', 'resize', '-q', '-f', 'qcow2', file, String(size)),
      };
    },
    traces: () => [
      ...readMountinfo('/proc')
        .filter(m => m.fsType.startsWith('nfs') && m.point !== '/proc/fs/nfsd')
        .map(m => m.point),
      ...readdirSync('/sys/block').filter(
        name => name.startsWith('nbd') && readdirSync(`/sys/block/${name}`).includes('pid'),
      ),
    ],
  };
}
