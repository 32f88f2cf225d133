/** What this host is to a storage service, which exports a volume to nobody else. */
import { randomUUID } from 'node:crypto';
import { access, mkdir, writeFile } from 'node:fs/promises';
import { hostname, machine, networkInterfaces } from 'node:os';
import { isNodeErrno } from '../../kernel/errno.ts';
import { readIfThere } from '../../kernel/read-if-there.ts';
import { attribute, entries } from './sysfs.ts';

/** The names are os-brick's, since Cinder's drivers read them. */
export type ConnectorProperties = {
  readonly platform: string;
  readonly os_type: 'linux';
  readonly ip: string;
  readonly host: string;
  readonly multipath: boolean;
  readonly enforce_multipath: boolean;
  readonly do_local_attach: boolean;
  /** iSCSI name of this host; absent where open-iscsi is not installed. */
  readonly initiator?: string;
  /** NVMe name of this host; absent where nvme-cli is not installed. */
  readonly nqn?: string;
  readonly nvme_hostid?: string;
  readonly nvme_native_multipath: boolean;
  readonly 'system uuid'?: string;
};

export type PropertiesOptions = {
  /** As Nova and Cinder know this host. Default: its host name. */
  readonly host?: string;
  /** Where storage reaches this host. Default: its address on the way to the default route. */
  readonly ip?: string;
  readonly multipath?: boolean;
};

export async function connectorProperties(options: PropertiesOptions = {}): Promise<ConnectorProperties> {
  const { host = hostname(), ip = await ownAddress(), multipath = false } = options;
  const systemUuid = attribute('/sys/class/dmi/id/product_uuid')?.toLowerCase();
  const [initiator, nvme] = await Promise.all([readInitiator(), nvmeNames(systemUuid)]);
  return {
    platform: machine(),
    os_type: 'linux',
    ip,
    host,
    multipath,
    enforce_multipath: multipath,
    do_local_attach: false,
    ...(initiator !== undefined && { initiator }),
    ...nvme,
    nvme_native_multipath: attribute('/sys/module/nvme_core/parameters/multipath') === 'Y',
    ...(systemUuid !== undefined && { 'system uuid': systemUuid }),
  };
}

async function readInitiator(): Promise<string | undefined> {
  const text = await readIfThere('/etc/iscsi/initiatorname.iscsi');
  return /^\s*InitiatorName\s*=\s*(\S+)\s*$/m.exec(text ?? '')?.[1];
}

/** They must stay the same for ever, also where nobody made them yet: nvme-cli reads the same files. */
async function nvmeNames(systemUuid: string | undefined): Promise<{ nqn?: string; nvme_hostid?: string }> {
  if (!(await isInstalled('nvme'))) return {};
  const uuid = systemUuid ?? randomUUID();
  const nvme_hostid = await readOrMake('/etc/nvme/hostid', uuid);
  const nqn = await readOrMake('/etc/nvme/hostnqn', `nqn.2014-08.org.nvmexpress:uuid:${nvme_hostid}`);
  return { nqn, nvme_hostid };
}

async function readOrMake(path: string, value: string): Promise<string> {
  const there = (await readIfThere(path))?.trim();
  if (there) return there;
  await mkdir('/etc/nvme', { recursive: true });
  await writeFile(path, `${value}\n`, { mode: 0o644 });
  return value;
}

async function isInstalled(program: string): Promise<boolean> {
  for (const directory of ['/usr/sbin', '/sbin', '/usr/bin', '/usr/local/sbin'])
    try {
      await access(`${directory}/${program}`);
      return true;
    } catch (error) {
      if (!isNodeErrno(error, 'ENOENT')) throw error;
    }
  return false;
}

/** Of the interface that has the default route, else of the first one that is up. */
async function ownAddress(): Promise<string> {
  const routes = (await readIfThere('/proc/net/route')) ?? '';
  const [, byDefault = ''] = /^(\S+)\t00000000\t/m.exec(routes) ?? [];
  const all = networkInterfaces();
  const names = [byDefault, ...entries('/sys/class/net')];
  for (const name of names) {
    const address = all[name]?.find(a => !a.internal && a.family === 'IPv4');
    if (address) return address.address;
  }
  return '127.0.0.1';
}
