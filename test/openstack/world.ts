/** The cloud with two compute hosts that have the agent, images, flavors; and what it looks like from below. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { chown, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as z from 'zod';
import { Cloud } from '../rig/cloud/cloud.ts';
import { ComputeHost } from './host.ts';
import { type Images, uploadImages } from './images.ts';
import { type Server, Servers } from './servers.ts';

const run = promisify(execFile);
const VOLUMES = z.object({ volumes: z.array(z.object({ id: z.string() })) });

export class OpenStack implements AsyncDisposable {
  readonly cloud: Cloud;
  readonly servers: Servers;
  readonly hosts: readonly ComputeHost[];
  readonly images: Images;

  private constructor(cloud: Cloud, servers: Servers, hosts: readonly ComputeHost[], images: Images) {
    this.cloud = cloud;
    this.servers = servers;
    this.hosts = hosts;
    this.images = images;
  }

  /** `agent`: what else its configuration has. */
  static async up(
    options: { readonly agent?: object; readonly say?: (text: string) => void } = {},
  ): Promise<OpenStack> {
    const say = options.say ?? (() => {});
    await using scope = new AsyncDisposableStack();
    const cloud = await Cloud.up({}, say);
    const hosts: ComputeHost[] = [];
    for (const name of cloud.settings.hosts) {
      scope.defer(() => cloud.stopCompute(name));
      hosts.push(scope.use(await ComputeHost.make(cloud, name, options.agent)));
    }
    say('agents run');
    const servers = new Servers(cloud.api);
    await cloud.startComputes();
    say('nova-compute runs');
    await servers.flavor('t1', { ramMb: 128, diskGb: 1 });
    await servers.flavor('t2', { ramMb: 256, diskGb: 2 });
    await servers.flavor('t3', { ramMb: 256, diskGb: 3 });
    await servers.flavor('shifted', { ramMb: 128, diskGb: 1, specs: { 'trait:CUSTOM_SHIFTVOL': 'required' } });
    const stack = new OpenStack(cloud, servers, hosts, await uploadImages(cloud, servers));
    await stack.clear();
    stack.#kept = scope.move();
    return stack;
  }
  #kept: AsyncDisposable | undefined;

  host(name: string): ComputeHost {
    const host = this.hosts.find(h => h.name === name);
    if (host === undefined) throw new Error(`there is no host "${name}"`);
    return host;
  }

  /** stdout of a shell line in the server's container. */
  async inside(server: Server, script: string): Promise<string> {
    return await this.host(server.host).lxd.sh(server.instance, script);
  }

  /** Which id on the host the container's root is. */
  async idBase(server: Server): Promise<number> {
    const [, base] = (await this.inside(server, 'cat /proc/self/uid_map')).trim().split(/\s+/);
    return Number(base);
  }

  /** 0: it does not run. */
  async initPid(server: Server): Promise<number> {
    return await this.host(server.host).lxd.initPid(server.instance);
  }

  /** What Nova's own database says. */
  async novaRow(server: Server): Promise<Readonly<Record<string, string>>> {
    const query = `select vm_state, power_state, task_state, host, deleted, memory_mb, root_gb, image_ref from instances where uuid = '${server.id}'`;
    const [row] = await this.cloud.sql('nova_cell1', query);
    if (row === undefined) throw new Error(`Nova's database has no instance ${server.id}`);
    return row;
  }

  /** Volumes that are attached to it by Nova's database. */
  async novaVolumes(server: Server): Promise<readonly string[]> {
    const query = `select volume_id from block_device_mapping where instance_uuid = '${server.id}' and deleted = 0 and volume_id is not null`;
    return (await this.cloud.sql('nova_cell1', query)).map(row => row['volume_id'] ?? '');
  }

  /** GiB, by Nova's database. */
  async novaVolumeSize(server: Server, volume: string): Promise<number> {
    const query = `select volume_size from block_device_mapping where instance_uuid = '${server.id}' and deleted = 0 and volume_id = '${volume}'`;
    return Number((await this.cloud.sql('nova_cell1', query))[0]?.['volume_size']);
  }

  /** A volume with an ext4 file system on it, in which `owned` belongs to 1000 and `rooted` to 0. */
  async formattedVolume(name: string): Promise<string> {
    const id = await this.servers.volume(name);
    const tree = mkdtempSync(join(tmpdir(), 'shiftvol-volume-'));
    try {
      await writeFile(join(tree, 'owned'), `${name}\n`);
      await chown(join(tree, 'owned'), 1000, 1000);
      await writeFile(join(tree, 'rooted'), `${name}\n`);
      await run('mkfs.ext4', ['-q', '-F', '-d', tree, this.volumeFile(id)]);
    } finally {
      rmSync(tree, { recursive: true });
    }
    return id;
  }

  async blankXfsVolume(name: string): Promise<string> {
    const id = await this.servers.volume(name);
    await run('mkfs.xfs', ['-q', this.volumeFile(id)]);
    return id;
  }

  volumeFile(id: string): string {
    return join(this.cloud.volumeDir, `volume-${id}`);
  }

  /** Of a file in an ext4 image that is not mounted, as it stands on the disk: `1000:1000`. */
  async ownerOnDisk(image: string, path: string): Promise<string> {
    const { stdout } = await run('debugfs', ['-R', `stat ${path}`, image]);
    const [, uid, gid] = /User:\s*(\d+)\s+Group:\s*(\d+)/.exec(stdout) ?? [];
    return `${uid}:${gid}`;
  }

  /** Of a file in an ext4 image that is not mounted. */
  async textOnDisk(image: string, path: string): Promise<string> {
    return (await run('debugfs', ['-R', `cat ${path}`, image])).stdout;
  }

  /** Of a file in the root of a server, as it stands on the disk of its host while it runs. */
  async ownerInRoot(server: Server, path: string): Promise<string> {
    await this.inside(server, 'sync');
    const root = (await this.host(server.host).attachments()).find(a => a.instance === server.id && a.role === 'root');
    if (root === undefined) throw new Error(`there is no root of ${server.name} on ${server.host}`);
    return await this.ownerOnDisk(root.image, path);
  }

  /** How often an image was downloaded from Glance, ever. */
  async downloads(image: string): Promise<number> {
    const log = this.cloud.processes.log('glance-api', 2 ** 24);
    return log.split('\n').filter(line => line.includes(`GET /v2/images/${image}/file`)).length;
  }

  /** Every server and volume of an earlier test. */
  async clear(): Promise<void> {
    await Promise.all((await this.servers.list()).map(server => this.servers.delete(server.id)));
    const { volumes } = VOLUMES.parse(await this.cloud.api.get('cinder', '/volumes'));
    await Promise.all(volumes.map(({ id }) => this.servers.deleteVolume(id)));
  }

  /** The cloud stays; its servers, computes and hosts go. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#kept?.[Symbol.asyncDispose]();
  }
}
