/** Where the small OpenStack keeps its things, and on which ports of the loopback address it is. */
import { join } from 'node:path';

const PORTS = [
  'keystone',
  'placement',
  'nova',
  'glance',
  'cinder',
  'neutron',
  'amqp',
  'distribution',
  'epmd',
  'barbican',
] as const;
export type PortName = (typeof PORTS)[number];

export const ADDRESS = '127.0.0.1';
export const REGION = 'RegionOne';
/** Of every user of the cloud, `admin` and the services': nothing listens beyond the loopback address. */
export const PASSWORD = 'secret';

export type CloudSettings = {
  readonly dir: string;
  readonly portBase: number;
  /** Hosts that run nova-compute: node1, node2, ... */
  readonly hosts: readonly string[];
  /** Below nova.virt, for example `shiftvol.driver.ShiftvolDriver` or Nova's own `fake.MediumFakeDriver`. */
  readonly computeDriver: string;
  /** Servers are deleted softly, so that they can be restored. */
  readonly softDelete: boolean;
};

/** $SHIFTVOL_CLOUD_DIR and $SHIFTVOL_CLOUD_PORT_BASE go before what is given; $SHIFTVOL_CLOUD_SOFT_DELETE is 1 for the tests. */
export function cloudSettings(given: Partial<CloudSettings> = {}): CloudSettings {
  return {
    hosts: ['node1', 'node2'],
    computeDriver: 'shiftvol.driver.ShiftvolDriver',
    softDelete: process.env['SHIFTVOL_CLOUD_SOFT_DELETE'] === '1',
    ...given,
    dir: process.env['SHIFTVOL_CLOUD_DIR'] ?? given.dir ?? '/var/tmp/shiftvol-cloud',
    portBase: Number(process.env['SHIFTVOL_CLOUD_PORT_BASE'] ?? given.portBase ?? 18700),
  };
}

export function portOf({ portBase }: CloudSettings, name: PortName): number {
  return portBase + PORTS.indexOf(name);
}

export function brokerUrl(settings: CloudSettings): string {
  return `rabbit://guest:guest@${ADDRESS}:${portOf(settings, 'amqp')}/`;
}

const http = (settings: CloudSettings, name: PortName, path = '') =>
  `http://${ADDRESS}:${portOf(settings, name)}${path}`;

export function keystoneUrl(settings: CloudSettings): string {
  return http(settings, 'keystone', '/v3');
}

/** Keystone's catalogue: type, name and address of each service. */
export function catalogue(settings: CloudSettings): readonly { type: string; name: string; url: string }[] {
  const cinder = http(settings, 'cinder', '/v3/%(project_id)s');
  return [
    { type: 'identity', name: 'keystone', url: keystoneUrl(settings) },
    { type: 'placement', name: 'placement', url: http(settings, 'placement') },
    { type: 'compute', name: 'nova', url: http(settings, 'nova', '/v2.1') },
    { type: 'image', name: 'glance', url: http(settings, 'glance') },
    { type: 'key-manager', name: 'barbican', url: http(settings, 'barbican') },
    { type: 'network', name: 'neutron', url: http(settings, 'neutron') },
    { type: 'volumev3', name: 'cinderv3', url: cinder },
    { type: 'block-storage', name: 'cinder', url: cinder },
  ];
}

/** What a client's environment needs, as `openrc` has it. */
export function credentials(settings: CloudSettings): Readonly<Record<string, string>> {
  return {
    OS_AUTH_URL: keystoneUrl(settings),
    OS_USERNAME: 'admin',
    OS_PASSWORD: PASSWORD,
    OS_PROJECT_NAME: 'admin',
    OS_USER_DOMAIN_ID: 'default',
    OS_PROJECT_DOMAIN_ID: 'default',
    OS_IDENTITY_API_VERSION: '3',
    OS_REGION_NAME: REGION,
    OS_COMPUTE_API_VERSION: '2.92',
    OS_VOLUME_API_VERSION: '3.70',
  };
}

export function paths({ dir }: CloudSettings) {
  return {
    dir,
    etc: join(dir, 'etc'),
    log: join(dir, 'log'),
    run: join(dir, 'run'),
    /** Marks of what was done once. */
    done: join(dir, 'done'),
    /** Files of packages that are unpacked and not installed. */
    packages: join(dir, 'packages'),
    state: join(dir, 'state'),
    lock: join(dir, 'lock'),
    database: join(dir, 'database'),
    databaseSocket: join(dir, 'database.sock'),
    images: join(dir, 'images'),
    cinder: join(dir, 'cinder'),
    bin: join(dir, 'bin'),
  } as const;
}
