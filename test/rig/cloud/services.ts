/** The services' programs. */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Program } from './processes.ts';
import { ADDRESS, type CloudSettings, paths, portOf } from './settings.ts';

const PYTHON = '/usr/bin/python3';
const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const DRIVER = fileURLToPath(new URL('../../../deploy/nova', import.meta.url));

export function controllers(settings: CloudSettings): readonly Program[] {
  const { etc, bin } = paths(settings);
  const config = (name: string) => ['--config-file', join(etc, name)];
  const nova = (name: string) => python(`nova-${name}`, `nova.cmd.${name}`, config('nova/nova.conf'));
  const cinder = (name: string) => ({
    ...python(`cinder-${name}`, `cinder.cmd.${name}`, config('cinder/cinder.conf')),
    env: { PATH: `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${bin}` },
  });
  return [
    nova('conductor'),
    nova('scheduler'),
    nova('api'),
    python('glance-api', 'glance.cmd.api', config('glance/glance-api.conf')),
    cinder('api'),
    cinder('scheduler'),
    cinder('volume'),
  ];
}

/** Those that all others ask at their start. */
export function identity(settings: CloudSettings): readonly Program[] {
  const { etc, packages } = paths(settings);
  return [
    wsgi('keystone', portOf(settings, 'keystone'), '/usr/bin/keystone-wsgi-public', {
      OS_KEYSTONE_CONFIG_DIR: join(etc, 'keystone'),
    }),
    wsgi('placement', portOf(settings, 'placement'), '/usr/bin/placement-api', {
      OS_PLACEMENT_CONFIG_DIR: join(etc, 'placement'),
    }),
    // It looks for its configuration in its user's home.
    wsgi('barbican', portOf(settings, 'barbican'), here('barbican_api.py'), {
      HOME: join(etc, 'barbican'),
      BARBICAN_PASTE: join(packages, 'usr/share/barbican-common/barbican-api-paste.ini'),
    }),
    { name: 'neutron', argv: [process.execPath, here('neutron.ts'), String(portOf(settings, 'neutron'))] },
  ];
}

export function compute(settings: CloudSettings, host: string): Program {
  const { etc } = paths(settings);
  const files = ['nova/nova.conf', `nova/${host}.conf`].flatMap(name => ['--config-file', join(etc, name)]);
  return { ...python(`nova-compute-${host}`, 'nova.cmd.compute', files), env: { PYTHONPATH: DRIVER } };
}

/** What has to be done once, each by a program that ends. */
export function schemas(settings: CloudSettings, cell0: string): Readonly<Record<string, readonly Program['argv'][]>> {
  const { etc } = paths(settings);
  const config = (name: string) => ['--config-file', join(etc, name)];
  const keystone = (...args: readonly string[]): Program['argv'] => [
    'keystone-manage',
    ...config('keystone/keystone.conf'),
    ...args,
  ];
  const asRoot = ['--keystone-user', 'root', '--keystone-group', 'root'];
  return {
    keystone: [keystone('db_sync'), keystone('fernet_setup', ...asRoot), keystone('credential_setup', ...asRoot)],
    placement: [['placement-manage', ...config('placement/placement.conf'), 'db', 'sync']],
    glance: [python('glance-manage', 'glance.cmd.manage', [...config('glance/glance-api.conf'), 'db_sync']).argv],
    cinder: [python('cinder-manage', 'cinder.cmd.manage', [...config('cinder/cinder.conf'), 'db', 'sync']).argv],
    nova: [[PYTHON, here('nova_schema.py'), join(etc, 'nova/nova.conf'), cell0]],
  };
}

function python(name: string, module: string, args: readonly string[]): Program {
  return { name, argv: [PYTHON, here('service.py'), name, module, ...args] };
}

function wsgi(name: string, port: number, file: string, env: Readonly<Record<string, string>>): Program {
  return {
    name,
    env,
    argv: [
      'uwsgi',
      ...['--plugin', 'python3', '--http-socket', `${ADDRESS}:${port}`, '--wsgi-file', file, '--procname', name],
      ...['--master', '--processes', '1', '--threads', '4', '--enable-threads', '--lazy-apps', '--die-on-term'],
      ...['--need-app', '--buffer-size', '65535', '--disable-logging', '--add-header', 'Connection: close'],
    ],
  };
}
