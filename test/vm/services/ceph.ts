import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readConnection } from '../../../src/storage/connect/info.ts';
import { MiB, type Service } from '../contract.ts';
import { run, SCRATCH } from '../guest.ts';

const FSID = '11111111-2222-3333-4444-555555555555';
const SIZE = 64 * MiB;
/** One monitor and one OSD in a file, as small as they get; nobody has to prove who he is. */
const CONFIG = `[global]
fsid = ${FSID}
mon host = 127.0.0.1
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail warn = 2
mon data avail crit = 1
ms bind ipv6 = false
log file = /dev/null
mon cluster log file = /dev/null
osd objectstore = bluestore
bluestore block size = 2147483648
bluestore block create = true
osd memory target = 939524096
osd op num shards = 1
osd op num threads per shard = 1
`;

/** `client`: whether the kernel is to have one of its own, or rbd-nbd comes to its turn. */
export function cephService(client: 'kernel' | 'nbd'): Service {
  let count = 0;
  const info = (image: string) =>
    readConnection({
      driver_volume_type: 'rbd',
      serial: `id-${image}`,
      data: {
        name: `rbd/${image}`,
        hosts: ['127.0.0.1'],
        ports: ['6789'],
        cluster_name: 'ceph',
        auth_enabled: false,
        auth_username: null,
        secret_type: 'ceph',
        secret_uuid: null,
      },
    }).connection;
  return {
    async start() {
      await startCeph();
      if (client === 'kernel') return;
      run('modprobe', '-r', 'rbd');
      writeFileSync('/etc/modprobe.d/no-rbd.conf', 'install rbd /bin/false\n');
    },
    volume(name) {
      const image = `${client}-${name}-${count++}`;
      run('rbd', 'create', image, '--size', `${SIZE / MiB}`);
      return {
        connection: info(image),
        sizeBytes: SIZE,
        missing: info('none'),
        grow: size => void run('rbd', 'resize', '--no-progress', image, '--size', `${size / MiB}`),
      };
    },
    traces: () => readdirSync('/sys/block').filter(name => name.startsWith('rbd') || hasPid(name)),
  };
}

const hasPid = (name: string): boolean => name.startsWith('nbd') && readdirSync(`/sys/block/${name}`).includes('pid');

let started = false;
async function startCeph(): Promise<void> {
  if (started) return;
  started = true;
  run('mount', '--bind', SCRATCH, '/var/lib/ceph');
  for (const dir of ['/etc/ceph', '/run/ceph', '/var/lib/ceph/mon/ceph-a', '/var/lib/ceph/osd/ceph-0'])
    mkdirSync(dir, { recursive: true });
  writeFileSync('/etc/ceph/ceph.conf', CONFIG);
  run('monmaptool', '--create', '--addv', 'a', '[v2:127.0.0.1:3300,v1:127.0.0.1:6789]', '--fsid', FSID, '/tmp/monmap');
  run('ceph-mon', '--mkfs', '-i', 'a', '--monmap', '/tmp/monmap');
  run('ceph-mon', '-i', 'a');
  run('ceph', 'osd', 'create');
  run('ceph-osd', '-i', '0', '--mkfs');
  run('ceph', 'osd', 'crush', 'add', 'osd.0', '1.0', 'root=default', 'host=vm');
  run('ceph-osd', '-i', '0');
  while (!run('ceph', 'osd', 'stat').includes('1 up')) await sleep(500);
  run('ceph', 'osd', 'pool', 'create', 'rbd', '8', '8');
  run('ceph', 'osd', 'pool', 'application', 'enable', 'rbd', 'rbd');
  run('modprobe', 'rbd');
}
