/**
 * A small genuine OpenStack on this machine: Keystone, Placement, Glance, Barbican, Cinder (its NFS driver on a directory) and Nova from the
 * distribution's packages, RabbitMQ and MariaDB, all below one directory, on the loopback address, without systemd. What is there is
 * kept, what runs is left running: a second start takes seconds. Left out: Neutron (servers have no network).
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { z } from 'zod';
import { readMountinfo } from '../../../src/mount/mountinfo.ts';
import { CloudApi } from './api.ts';
import { askBroker, startBroker, stopBroker } from './broker.ts';
import { fillCatalogue } from './catalogue.ts';
import { cinderShare, databaseUrl, writeConfiguration } from './configuration.ts';
import { type DatabaseName, sql, startDatabase } from './database.ts';
import { listens, Processes } from './processes.ts';
import { compute, controllers, identity, schemas } from './services.ts';
import {
  brokerUrl,
  type CloudSettings,
  cloudSettings,
  credentials,
  keystoneUrl,
  PASSWORD,
  paths,
  portOf,
  REGION,
} from './settings.ts';

const run = promisify(execFile);
const READY_MS = 180_000;
const UP = z.object({
  services: z.array(
    z.object({ binary: z.string(), host: z.string(), state: z.string(), updated_at: z.string().nullable() }),
  ),
});
const HYPERVISORS = z.object({ hypervisors: z.array(z.object({ hypervisor_hostname: z.string() })) });
const PROVIDERS = z.object({ resource_providers: z.array(z.object({ name: z.string() })) });

export class Cloud {
  readonly settings: CloudSettings;
  readonly processes: Processes;
  readonly api: CloudApi;

  private constructor(settings: CloudSettings) {
    this.settings = settings;
    const { dir, log, run: runDir, done, state, lock, packages } = paths(settings);
    for (const directory of [dir, log, runDir, done, state, lock, packages]) mkdirSync(directory, { recursive: true });
    this.processes = new Processes({ log, run: runDir });
    this.api = new CloudApi(settings);
  }

  /** The one that is there, running or not. */
  static at(given: Partial<CloudSettings> = {}): Cloud {
    return new Cloud(cloudSettings(given));
  }

  /** Everything but the computes. Fresh 35 to 60 s, found again 1 s. Needs root. */
  static async up(given: Partial<CloudSettings> = {}, say: (text: string) => void = () => {}): Promise<Cloud> {
    const cloud = Cloud.at(given);
    const { settings, processes } = cloud;
    await cloud.#once('packages-with-barbican', () => unpackConfigurations(settings));
    writeConfiguration(settings);
    await Promise.all([startBroker(settings, processes), startDatabase(settings, processes)]);
    say('broker and database run');
    await Promise.all(
      Object.entries(schemas(settings, databaseUrl(settings, 'nova_cell0'))).map(([name, commands]) =>
        cloud.#once(`schema-${name}`, () => runAll(commands)),
      ),
    );
    await cloud.#once('bootstrap', () => runAll([bootstrap(settings)]));
    say('schemas are there');
    for (const program of identity(settings)) processes.start(program);
    await processes.until('keystone', () => listens(portOf(settings, 'keystone')));
    await cloud.#once(`catalogue-${settings.portBase}`, () => fillCatalogue(settings, cloud.api));
    await cloud.#mountShare();
    for (const program of controllers(settings)) processes.start(program);
    await cloud.#servicesUp();
    say('controllers run');
    writeFileSync(join(settings.dir, 'openrc'), cloud.openrc);
    return cloud;
  }

  /** nova-compute on all hosts; with the shiftvol driver the agents must run by then. Resolves when servers can be put there. */
  async startComputes(hosts: readonly string[] = this.settings.hosts): Promise<void> {
    // What was reported before a restart does not count.
    const since = Date.now();
    const running = hosts.filter(host => this.processes.pid(`nova-compute-${host}`) !== undefined);
    for (const host of hosts) this.launchCompute(host);
    for (const host of hosts) {
      const isFresh = (at: string | null) => running.includes(host) || Date.parse(`${at}Z`) > since - 1000;
      await this.#until(`nova-compute on ${host}`, `nova-compute-${host}`, async () => {
        const { services } = UP.parse(await this.api.get('nova', `/os-services?binary=nova-compute&host=${host}`));
        if (!services.some(s => s.state === 'up' && isFresh(s.updated_at))) return false;
        const known = HYPERVISORS.parse(await this.api.get('nova', '/os-hypervisors')).hypervisors;
        const placed = PROVIDERS.parse(await this.api.get('placement', `/resource_providers?name=${host}`));
        return known.some(h => h.hypervisor_hostname === host) && placed.resource_providers.length > 0;
      });
    }
  }

  /** Without waiting for it. */
  launchCompute(host: string): void {
    this.processes.start(compute(this.settings, host));
  }

  async stopCompute(host: string, options: { readonly kill?: boolean } = {}): Promise<void> {
    await this.processes.stop(`nova-compute-${host}`, options);
  }

  get brokerUrl(): string {
    return brokerUrl(this.settings);
  }

  async stopBroker(options: { readonly kill?: boolean } = {}): Promise<void> {
    await stopBroker(this.processes, options);
  }

  async startBroker(): Promise<void> {
    await startBroker(this.settings, this.processes);
  }

  /** After the broker was away: all services answer again. */
  async heard(): Promise<void> {
    await this.#servicesUp();
    await this.startComputes();
  }

  askBroker(...args: readonly string[]): Promise<string> {
    return askBroker(this.settings, ...args);
  }

  sql(database: DatabaseName, query: string): Promise<readonly Readonly<Record<string, string>>[]> {
    return sql(this.settings, database, query);
  }

  get credentials(): Readonly<Record<string, string>> {
    return credentials(this.settings);
  }

  get openrc(): string {
    return Object.entries(this.credentials)
      .map(([name, value]) => `export ${name}=${value}\n`)
      .join('');
  }

  /** Where Cinder's volumes are: `volume-<uuid>`. */
  get volumeDir(): string {
    return cinderShare(this.settings).point;
  }

  /** Stops what runs; all that is kept stays. Safe to repeat. */
  async down(): Promise<void> {
    const { processes } = this;
    const last = ['mariadb', 'rabbitmq', 'epmd'];
    const first = processes.names().filter(name => !last.includes(name));
    await Promise.all(first.filter(name => name.startsWith('nova-compute')).map(name => processes.stop(name)));
    await Promise.all(first.map(name => processes.stop(name)));
    await Promise.all([processes.stop('mariadb', { timeoutMs: 20_000 }), stopBroker(processes)]);
    await processes.stop('epmd');
    const { point } = cinderShare(this.settings);
    if (isMounted(point)) await run('umount', [point]);
  }

  /** Stops what runs, and removes all of it. */
  async purge(): Promise<void> {
    await this.down();
    await run('rm', ['-rf', '--one-file-system', '--', this.settings.dir]);
  }

  async #once(name: string, work: () => Promise<void>): Promise<void> {
    const mark = join(paths(this.settings).done, name);
    if (existsSync(mark)) return;
    await work();
    writeFileSync(mark, '');
  }

  /** NfsDriver only looks whether its share is mounted: a bind mount is one. */
  async #mountShare(): Promise<void> {
    const { point, source } = cinderShare(this.settings);
    for (const directory of [point, source]) mkdirSync(directory, { recursive: true });
    if (!isMounted(point)) await run('mount', ['--bind', source, point]);
  }

  async #servicesUp(): Promise<void> {
    const { api } = this;
    await Promise.all([
      this.#until('nova-api', 'nova-api', async () => {
        const { services } = UP.parse(await api.get('nova', '/os-services'));
        return ['nova-conductor', 'nova-scheduler'].every(name =>
          services.some(s => s.binary === name && s.state === 'up'),
        );
      }),
      this.#until('glance', 'glance-api', () => api.get('glance', '/images').then(() => true)),
      this.#until('cinder', 'cinder-volume', async () => {
        const { services } = UP.parse(await api.get('cinder', '/os-services'));
        return ['cinder-scheduler', 'cinder-volume'].every(name =>
          services.some(s => s.binary === name && s.state === 'up'),
        );
      }),
    ]);
    const types = z.object({ volume_types: z.array(z.object({ name: z.string() })) });
    const { volume_types } = types.parse(await api.get('cinder', '/types'));
    if (!volume_types.some(type => type.name === 'nfs'))
      await api.post('cinder', '/types', { volume_type: { name: 'nfs', extra_specs: { volume_backend_name: 'nfs' } } });
  }

  async #until(what: string, name: string, ready: () => Promise<boolean>): Promise<void> {
    let last: unknown;
    const deadline = Date.now() + READY_MS;
    for (;;) {
      try {
        if (await ready()) return;
      } catch (error) {
        last = error; // not up yet
      }
      if (this.processes.pid(name) === undefined || Date.now() > deadline)
        throw new Error(`${what} is not up:\n${this.processes.log(name)}`, { cause: last });
      await sleep(300);
    }
  }
}

/** api-paste.ini and the like come in packages that would also install daemons, users and databases. */
async function unpackConfigurations(settings: CloudSettings): Promise<void> {
  const { packages } = paths(settings);
  await run('apt-get', ['download', 'nova-common', 'glance-common', 'cinder-common', 'barbican-common'], {
    cwd: packages,
  });
  for (const name of readdirSync(packages).filter(file => file.endsWith('.deb'))) {
    await run('dpkg-deb', ['-x', name, '.'], { cwd: packages });
    rmSync(join(packages, name));
  }
}

function bootstrap(settings: CloudSettings): readonly [string, ...string[]] {
  const url = keystoneUrl(settings);
  return [
    'keystone-manage',
    ...['--config-file', join(paths(settings).etc, 'keystone/keystone.conf'), 'bootstrap'],
    ...['--bootstrap-password', PASSWORD, '--bootstrap-region-id', REGION],
    ...['--bootstrap-public-url', url, '--bootstrap-internal-url', url, '--bootstrap-admin-url', url],
  ];
}

async function runAll(commands: readonly (readonly [string, ...string[]])[]): Promise<void> {
  for (const [file, ...args] of commands)
    await run(file, args, { env: { ...process.env, PYTHONWARNINGS: 'ignore' }, maxBuffer: 2 ** 26 });
}

function isMounted(point: string): boolean {
  return readMountinfo('/proc').some(mount => mount.point === point);
}
