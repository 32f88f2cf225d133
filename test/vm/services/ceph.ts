import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readConnection } from '../../../src/storage/connect/info.ts';
import { MiB, type Service } from '../contract.ts';
import { run, SCRATCH } from '../guest.ts';

const FSID = '11111111-2222-3333-4444-555555555555';
const SIZE = 64 * MiB;
/** Who connects volumes, with the capabilities that Ceph's manual gives to OpenStack's. */
export const CEPH_USER = 'volumes';
/** One monitor and one OSD in a file, as small as they get. */
const CONFIG = `[global]
fsid = ${FSID}
mon host = 127.0.0.1
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
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

/** As Cinder says it. `cluster`: of another name than "ceph" this host has no configuration, and goes by the monitors. */
export function rbdInfo(image: string, { cluster = 'ceph', keyring }: { cluster?: string; keyring?: string } = {}) {
  return readConnection({
    driver_volume_type: 'rbd',
    serial: `id-${image}`,
    data: {
      name: `rbd/${image}`,
      hosts: ['127.0.0.1'],
      ports: ['6789'],
      cluster_name: cluster,
      auth_enabled: true,
      auth_username: CEPH_USER,
      secret_type: 'ceph',
      secret_uuid: null,
      keyring: keyring ?? null,
    },
  });
}

/** Its keyring, which no file of this host has. */
export function cephKeyring(): string {
  const capabilities = ['mon', 'profile rbd', 'osd', 'profile rbd pool=rbd'];
  return run('ceph', 'auth', 'get-or-create', `client.${CEPH_USER}`, ...capabilities);
}

/** `client`: whether the kernel is to have one of its own, or rbd-nbd comes to its turn. */
export function cephService(client: 'kernel' | 'nbd'): Service {
  let count = 0;
  let keyring = '';
  const info = (image: string) => rbdInfo(image, { keyring, cluster: client === 'nbd' ? 'elsewhere' : 'ceph' });
  return {
    async start() {
      await startCeph();
      keyring = cephKeyring();
      if (client === 'kernel') return;
      run('modprobe', '-r', 'rbd');
      writeFileSync('/etc/modprobe.d/no-rbd.conf', 'install rbd /bin/false\n');
    },
    volume(name) {
      const image = `${client}-${name}-${count++}`;
      run('rbd', 'create', image, '--size', `${SIZE / MiB}`);
      return {
        ...info(image),
        sizeBytes: SIZE,
        missing: info('none').connection,
        grow: size => void run('rbd', 'resize', '--no-progress', image, '--size', `${size / MiB}`),
      };
    },
    traces: () => readdirSync('/sys/block').filter(name => name.startsWith('rbd') || hasPid(name)),
  };
}

const hasPid = (name: string): boolean => name.startsWith('nbd') && readdirSync(`/sys/block/${name}`).includes('pid');

let started = false;
export async function startCeph(): Promise<void> {
  if (started) return;
  started = true;
  run('mount', '--bind', SCRATCH, '/var/lib/ceph');
  for (const dir of ['/etc/ceph', '/run/ceph', '/var/lib/ceph/mon/ceph-a', '/var/lib/ceph/osd/ceph-0'])
    mkdirSync(dir, { recursive: true });
  writeFileSync('/etc/ceph/ceph.conf', CONFIG);
  makeKeys();
  run('monmaptool', '--create', '--addv', 'a', '[v2:127.0.0.1:3300,v1:127.0.0.1:6789]', '--fsid', FSID, '/tmp/monmap');
  run('ceph-mon', '--mkfs', '-i', 'a', '--monmap', '/tmp/monmap', '--keyring', MONITOR_KEYS);
  run('ceph-mon', '-i', 'a');
  run('ceph', 'osd', 'create');
  const key = '/var/lib/ceph/osd/ceph-0/keyring';
  run('ceph', 'auth', 'get-or-create', 'osd.0', 'osd', 'allow *', 'mon', 'allow profile osd', '-o', key);
  run('ceph-osd', '-i', '0', '--mkfs');
  run('ceph', 'osd', 'crush', 'add', 'osd.0', '1.0', 'root=default', 'host=vm');
  run('ceph-osd', '-i', '0');
  while (!run('ceph', 'osd', 'stat').includes('1 up')) await sleep(500);
  run('ceph', 'osd', 'pool', 'create', 'rbd', '8', '8');
  run('ceph', 'osd', 'pool', 'application', 'enable', 'rbd', 'rbd');
  run('modprobe', 'rbd');
}

const MONITOR_KEYS = '/tmp/monitor.keyring';

/** The monitor's own, and the administrator's, whose file this host's "rbd" and "ceph" find by themselves. */
function makeKeys(): void {
  const admin = '/etc/ceph/ceph.client.admin.keyring';
  const make = ['--create-keyring', '--gen-key'];
  run('ceph-authtool', ...make, MONITOR_KEYS, '-n', 'mon.', '--cap', 'mon', 'allow *');
  run('ceph-authtool', ...make, admin, '-n', 'client.admin', '--cap', 'mon', 'allow *', '--cap', 'osd', 'allow *');
  run('ceph-authtool', MONITOR_KEYS, '--import-keyring', admin);
}
