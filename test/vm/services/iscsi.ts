import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readConnection } from '../../../src/storage/connect/info.ts';
import { MiB, type Service } from '../contract.ts';
import { configure, growLoop, loopOf, run, SCRATCH } from '../guest.ts';

const TARGET = 'iqn.2026-01.test.vm:volumes';
const CONFIG = '/sys/kernel/config/target';
const GROUP = `${CONFIG}/iscsi/${TARGET}/tpgt_1`;
const PORTALS = ['127.0.0.1:3260', '127.0.0.2:3260', '[::1]:3260'] as const;
export const [FIRST, SECOND, IPV6] = PORTALS;
/** Nobody listens there. */
export const DEAD = '127.0.0.9:3260';
const SIZE = 64 * MiB;
const CHAP = { user: 'vol', password: 'a-secret-of-some-length' } as const;

/** Addresses, as "ADDRESS:PORT". */
type Portals = readonly [string, ...string[]];
export type IscsiOptions = { readonly portals: Portals; readonly chap: boolean };

/** As Cinder says it. `luns`: of each path, where they are not the same. */
export function iscsiInfo(name: string, lun: number, { portals, chap }: IscsiOptions, luns = portals.map(() => lun)) {
  return readConnection({
    driver_volume_type: 'iscsi',
    serial: `id-${name}`,
    data: {
      target_discovered: false,
      target_portal: portals[0],
      target_iqn: TARGET,
      target_lun: lun,
      ...(portals.length > 1 && {
        target_portals: portals,
        target_iqns: portals.map(() => TARGET),
        target_luns: luns,
      }),
      ...(chap && { auth_method: 'CHAP', auth_username: CHAP.user, auth_password: CHAP.password }),
      access_mode: 'rw',
      encrypted: false,
    },
  });
}

let lun = 0;

/** The kernel's target (LIO), set up through configfs. One target whose LUNs are the volumes, at one portal or two. */
export function iscsiService(options: IscsiOptions): Service {
  const { portals, chap } = options;
  return {
    async start() {
      for (const module of ['target_core_mod', 'target_core_iblock', 'iscsi_target_mod', 'iscsi_tcp', 'sd_mod'])
        run('modprobe', module);
      for (const portal of PORTALS) mkdirSync(`${GROUP}/np/${portal}`, { recursive: true });
      const node = `${GROUP}/acls/${initiator()}`;
      mkdirSync(node, { recursive: true });
      configure(`${GROUP}/attrib`, { authentication: chap ? 1 : 0, generate_node_acls: 0, demo_mode_write_protect: 0 });
      if (chap) configure(`${node}/auth`, { userid: CHAP.user, password: CHAP.password });
      writeFileSync(`${GROUP}/enable`, '1');
      mkdirSync('/run/lock/iscsi', { recursive: true });
      run('iscsid');
      if (portals.length > 1) {
        run('modprobe', 'dm-multipath');
        run('multipathd');
      }
      await sleep(500);
    },
    volume(name) {
      const number = nextLun();
      const file = `${SCRATCH}/iscsi-${number}.img`;
      const device = addUnit(number, file);
      return {
        ...iscsiInfo(`${name}-${number}`, number, options),
        sizeBytes: SIZE,
        missing: iscsiInfo('none', 4000, options).connection,
        grow: size => growLoop(device, file, size),
      };
    },
    traces: iscsiTraces,
  };
}

export function iscsiTraces(): readonly string[] {
  return [
    ...entries('/sys/class/iscsi_session'),
    ...entries('/etc/iscsi/nodes'),
    ...entries('/sys/block').filter(name => /^(sd|dm-)/.test(name)),
  ];
}

/** One volume as a unit of the target, and in the one host's view of it. */
export function addUnit(number: number, file: string, sizeBytes = SIZE): string {
  const device = loopOf(file, sizeBytes);
  const store = `${CONFIG}/core/iblock_0/v${number}`;
  configure(store, { control: `udev_path=${device}` });
  writeFileSync(`${store}/enable`, '1');
  writeFileSync(`${store}/wwn/vpd_unit_serial`, `serial-${number}`);
  const unit = `${GROUP}/lun/lun_${number}`;
  mkdirSync(unit);
  symlinkSync(store, `${unit}/v${number}`);
  const seen = `${GROUP}/acls/${initiator()}/lun_${number}`;
  mkdirSync(seen);
  symlinkSync(unit, `${seen}/v${number}`);
  return device;
}

/** Another volume gets the number that this unit had. */
export function replaceUnit(number: number, by: number): void {
  const [unit, seen] = [`${GROUP}/lun/lun_${number}`, `${GROUP}/acls/${initiator()}/lun_${number}`];
  for (const dir of [seen, unit]) {
    for (const name of readdirSync(dir)) if (lstatSync(`${dir}/${name}`).isSymbolicLink()) unlinkSync(`${dir}/${name}`);
    rmdirSync(dir);
  }
  mkdirSync(unit);
  symlinkSync(`${CONFIG}/core/iblock_0/v${by}`, `${unit}/v${by}`);
  mkdirSync(seen);
  symlinkSync(unit, `${seen}/v${by}`);
}

/** The numbers that units have are given once. */
export function nextLun(): number {
  return lun++;
}

function initiator(): string {
  return /InitiatorName=(\S+)/.exec(readFileSync('/etc/iscsi/initiatorname.iscsi', 'utf8'))?.[1] ?? '';
}

function entries(dir: string): readonly string[] {
  return existsSync(dir) ? readdirSync(dir) : [];
}
