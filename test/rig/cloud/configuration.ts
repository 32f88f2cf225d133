/** The configuration files of the small OpenStack: as little as makes it genuine. Written at every start. */
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ADDRESS, brokerUrl, type CloudSettings, keystoneUrl, PASSWORD, paths, portOf, REGION } from './settings.ts';

type Section = Readonly<Record<string, string | number | boolean>>;
type Ini = Readonly<Record<string, Section>>;

/** Cinder's share: what its NFS driver would have mounted, and hands to the driver as `export`. */
const SHARE = `${ADDRESS}:/export`;

export function writeConfiguration(settings: CloudSettings): void {
  const { etc, bin, images } = paths(settings);
  const files: Readonly<Record<string, string>> = {
    'keystone/keystone.conf': ini(keystone(settings)),
    'placement/placement.conf': ini(placement(settings)),
    'glance/glance-api.conf': ini(glance(settings)),
    'nova/nova.conf': ini(nova(settings)),
    ...Object.fromEntries(settings.hosts.map((host, i) => [`nova/${host}.conf`, ini(compute(settings, host, i))])),
    'cinder/cinder.conf': ini(cinder(settings)),
    'barbican/.barbican/barbican.conf': ini(barbican(settings)),
    'cinder/shares': `${SHARE}\n`,
    'rabbitmq/rabbitmq.conf': [
      `listeners.tcp.1 = ${ADDRESS}:${portOf(settings, 'amqp')}`,
      'log.console = false',
      'vm_memory_high_watermark.absolute = 512MB',
      'disk_free_limit.absolute = 50MB',
      '',
    ].join('\n'),
    'rabbitmq/enabled_plugins': '[].\n',
  };
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(etc, name)), { recursive: true });
    writeFileSync(join(etc, name), text);
  }
  for (const directory of [images, bin]) mkdirSync(directory, { recursive: true });
  // NfsDriver asks for the version of mount.nfs; a kernel without NFS has none, and nothing is ever mounted with it.
  writeFileSync(join(bin, 'mount.nfs'), '#!/bin/sh\nexit 1\n');
  chmodSync(join(bin, 'mount.nfs'), 0o755);
}

/** Where NfsDriver looks for its share, and where it really lies. */
export function cinderShare(settings: CloudSettings): { readonly point: string; readonly source: string } {
  const { cinder } = paths(settings);
  return {
    point: join(cinder, 'mnt', createHash('md5').update(SHARE).digest('hex')),
    source: join(cinder, 'export'),
  };
}

export function databaseUrl(settings: CloudSettings, name: string): string {
  return `mysql+pymysql://root@localhost/${name}?unix_socket=${paths(settings).databaseSocket}&charset=utf8mb4`;
}

function ini(sections: Ini): string {
  return Object.entries(sections)
    .map(
      ([name, keys]) =>
        `[${name}]\n${Object.entries(keys)
          .map(([key, value]) => `${key} = ${value}\n`)
          .join('')}`,
    )
    .join('\n');
}

const database = (settings: CloudSettings, name: string): Section => ({
  connection: databaseUrl(settings, name),
  max_pool_size: 4,
});

const as = (settings: CloudSettings, username: string): Section => ({
  auth_type: 'password',
  auth_url: keystoneUrl(settings),
  username,
  password: PASSWORD,
  project_name: 'service',
  user_domain_id: 'default',
  project_domain_id: 'default',
  region_name: REGION,
});

/** What every service but Keystone has. */
const everywhere = (settings: CloudSettings, service: string): Ini => ({
  keystone_authtoken: {
    www_authenticate_uri: keystoneUrl(settings),
    service_token_roles: 'service',
    service_token_roles_required: true,
    ...as(settings, service),
  },
  oslo_concurrency: { lock_path: join(paths(settings).lock, service) },
  oslo_messaging_notifications: { driver: 'messagingv2', topics: 'notifications' },
  service_user: { send_service_user_token: true, ...as(settings, service) },
});

const keystone = (settings: CloudSettings): Ini => ({
  database: database(settings, 'keystone'),
  fernet_tokens: { key_repository: join(paths(settings).etc, 'keystone/fernet') },
  credential: { key_repository: join(paths(settings).etc, 'keystone/credential') },
  token: { expiration: 86400 },
  cache: { backend: 'oslo_cache.dict' },
  identity: { password_hash_rounds: 4 },
});

const placement = (settings: CloudSettings): Ini => ({
  placement_database: database(settings, 'placement'),
  ...everywhere(settings, 'placement'),
});

const glance = (settings: CloudSettings): Ini => {
  const { images, packages, state } = paths(settings);
  return {
    DEFAULT: {
      bind_host: ADDRESS,
      bind_port: portOf(settings, 'glance'),
      workers: 0,
      transport_url: brokerUrl(settings),
      enabled_backends: 'file:file',
      enabled_import_methods: '[]',
    },
    database: database(settings, 'glance'),
    glance_store: { default_backend: 'file' },
    file: { filesystem_store_datadir: images },
    os_glance_staging_store: { filesystem_store_datadir: join(state, 'glance-staging') },
    os_glance_tasks_store: { filesystem_store_datadir: join(state, 'glance-tasks') },
    paste_deploy: {
      flavor: 'keystone',
      config_file: join(packages, 'usr/share/glance-common/glance-api-paste.ini'),
    },
    ...everywhere(settings, 'glance'),
  };
};

/** Its keys are in its database, encrypted by one that everybody knows: what it does by itself. */
const barbican = (settings: CloudSettings): Ini => ({
  DEFAULT: {
    host_href: `http://${ADDRESS}:${portOf(settings, 'barbican')}`,
    sql_connection: databaseUrl(settings, 'barbican'),
    db_auto_create: true,
    transport_url: brokerUrl(settings),
  },
  database: database(settings, 'barbican'),
  ...everywhere(settings, 'barbican'),
});

const nova = (settings: CloudSettings): Ini => {
  const { packages, state } = paths(settings);
  return {
    DEFAULT: {
      host: 'controller',
      my_ip: ADDRESS,
      transport_url: brokerUrl(settings),
      state_path: join(state, 'nova'),
      osapi_compute_listen: ADDRESS,
      osapi_compute_listen_port: portOf(settings, 'nova'),
      osapi_compute_workers: 1,
      enabled_apis: 'osapi_compute',
      compute_driver: settings.computeDriver,
      allow_resize_to_same_host: true,
      // Seconds: deleted servers can be restored. Far longer than the cloud is there.
      ...(settings.softDelete && { reclaim_instance_interval: 86_400 }),
      heal_instance_info_cache_interval: -1,
      service_down_time: 30,
      report_interval: 2,
      periodic_fuzzy_delay: 0,
      reserved_host_memory_mb: 0,
    },
    api: { auth_strategy: 'keystone' },
    wsgi: { api_paste_config: join(packages, 'usr/share/nova-common/api-paste.ini') },
    api_database: database(settings, 'nova_api'),
    database: database(settings, 'nova_cell1'),
    conductor: { workers: 1 },
    quota: { instances: -1, cores: -1, ram: -1 },
    scheduler: { workers: 1, discover_hosts_in_cells_interval: 3 },
    placement: as(settings, 'placement'),
    glance: as(settings, 'nova'),
    cinder: {
      catalog_info: 'volumev3:cinderv3:internalURL',
      os_region_name: REGION,
      ...as(settings, 'nova'),
    },
    neutron: as(settings, 'neutron'),
    keystone: as(settings, 'nova'),
    notifications: {
      notification_format: 'both',
      notify_on_state_change: 'vm_and_task_state',
      versioned_notifications_topics: 'versioned_notifications',
      bdms_in_notifications: true,
      default_level: 'INFO',
    },
    ...everywhere(settings, 'nova'),
  };
};

/** Addresses differ, as those of two hosts do. */
const compute = (settings: CloudSettings, host: string, index: number): Ini => ({
  DEFAULT: {
    host,
    my_ip: `127.0.0.${index + 1}`,
    state_path: join(paths(settings).state, host),
    // More than there is: the hosts are one machine.
    initial_cpu_allocation_ratio: 64,
    initial_ram_allocation_ratio: 16,
    initial_disk_allocation_ratio: 16,
  },
  shiftvol: { rpc_timeout: 30, long_rpc_timeout: 300, call_monitor_timeout: 20, start_timeout: 60 },
});

const cinder = (settings: CloudSettings): Ini => {
  const { cinder: home, etc, packages, state } = paths(settings);
  return {
    DEFAULT: {
      host: 'controller',
      my_ip: ADDRESS,
      transport_url: brokerUrl(settings),
      auth_strategy: 'keystone',
      osapi_volume_listen: ADDRESS,
      osapi_volume_listen_port: portOf(settings, 'cinder'),
      osapi_volume_workers: 1,
      enabled_backends: 'nfs1',
      default_volume_type: 'nfs',
      api_paste_config: join(packages, 'usr/share/cinder-common/api-paste.ini'),
      resource_query_filters_file: join(packages, 'etc/cinder/resource_filters.json'),
      rootwrap_config: join(packages, 'etc/cinder/rootwrap.conf'),
      state_path: home,
      image_conversion_dir: join(home, 'conversion'),
      glance_api_servers: `http://${ADDRESS}:${portOf(settings, 'glance')}`,
      volume_clear: 'none',
      quota_volumes: -1,
      quota_gigabytes: -1,
      quota_snapshots: -1,
    },
    database: database(settings, 'cinder'),
    nova: { interface: 'internal', ...as(settings, 'cinder') },
    coordination: { backend_url: `file://${join(state, 'cinder-coordination')}` },
    nfs1: {
      // The file beside service.py.
      volume_driver: 'growing_nfs.GrowingNfsDriver',
      volume_backend_name: 'nfs',
      nfs_shares_config: join(etc, 'cinder/shares'),
      nfs_mount_point_base: join(home, 'mnt'),
      nfs_sparsed_volumes: true,
      nfs_snapshot_support: true,
      nas_secure_file_operations: false,
      nas_secure_file_permissions: false,
    },
    ...everywhere(settings, 'cinder'),
  };
};
