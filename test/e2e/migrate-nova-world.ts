/** Two agents that Nova moves an instance between: a Glance, a share with a volume on it, and the calls that Nova's driver makes. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before } from 'node:test';
import { until } from '../integration/bus/helpers.ts';
import { makeRootfs } from '../rig/busybox.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { type RpcClient, rpcClient } from '../rig/oslo/rpc.ts';
import { freePort } from '../rig/ports.ts';
import { type Rabbit, startRabbit } from '../rig/rabbit.ts';
import { list } from './ask.ts';
import { digestOnDisk } from './digest.ts';
import { Glance } from './glance.ts';
import { makeTwoHosts, type TwoHosts } from './migrate-world.ts';
import type { Agent, World } from './world.ts';

const IMAGE = '1a6e0000-0000-4000-8000-00000000000a';
export const VOLUME = '701a0000-0000-4000-8000-00000000000a';
const UUID = '0c0ffee0-0000-4000-8000-00000000000a';
const EXPORT = '127.0.0.1:/migrate';
type Node = 'node1' | 'node2';

let hosts: TwoHosts;
let rabbit: Rabbit;
let glance: Glance;
let client: RpcClient;
let base: string;
let port: number;
export const agents = new Map<Node, Agent>();
const clean = new Map<Node, HostState>();
const scope = new AsyncDisposableStack();

/** For the tests of a file. */
export function useNodes(): void {
  before(async () => {
    [hosts, rabbit, glance] = await Promise.all([makeTwoHosts(), startRabbit(), Glance.start()]);
    for (const resource of [hosts, rabbit, glance]) scope.use(resource);
    client = scope.use(await rpcClient(rabbit.url));
    base = mkdtempSync(join(tmpdir(), 'shiftvol-share-'));
    const rootfs = join(base, 'rootfs');
    mkdirSync(rootfs);
    await makeRootfs(rootfs);
    execFileSync('tar', ['-C', rootfs, '--numeric-owner', '-cf', `${rootfs}.tar`, '.']);
    glance.add(IMAGE, readFileSync(`${rootfs}.tar`));
    mkdirSync(share());
    execFileSync('mount', ['--bind', share(), share()]);
    const data = join(base, 'data');
    mkdirSync(data);
    writeFileSync(join(data, 'hello'), 'from cinder\n');
    execFileSync('chown', ['1000:1000', join(data, 'hello')]);
    execFileSync('mkfs.ext4', ['-q', '-d', data, join(share(), `volume-${VOLUME}`), '64M']);
    port = await freePort();
    for (const node of ['node1', 'node2'] as const) {
      chmodSync(worldOf(node).dir, 0o711);
      Object.assign(worldOf(node).env, glance.env);
      await serve(node);
      clean.set(node, hostState(worldOf(node).dir));
    }
  });
  after(async () => {
    for (const agent of agents.values()) await agent[Symbol.asyncDispose]();
    await hosts?.[Symbol.asyncDispose]();
    execFileSync('umount', [share()]);
    rmSync(base, { recursive: true, force: true });
    await scope.disposeAsync();
  });
  /** What a test that failed has left must not fail the next one. */
  afterEach(async () => {
    for (const node of ['node1', 'node2'] as const)
      await ask(node, 'destroy', { ...destroyArgs(), instance: instance('deleting') });
  });
}

export const worldOf = (node: Node): World => (node === 'node1' ? hosts.a : hosts.b);
const share = () => join(base, createHash('md5').update(EXPORT).digest('hex'));

/** Roots leave node1 alone. */
async function serve(node: Node): Promise<void> {
  const config = {
    host: node,
    subid_owner: node === 'node1' ? 'shiftvol' : 'shiftvol-b',
    rpc: { url: rabbit.url },
    nova: { enabled: true, address: '127.0.0.1' },
    migration: { listen: node === 'node1' ? `127.0.0.1:${port}` : null },
  };
  const agent = await worldOf(node).agent(JSON.stringify(config));
  agents.set(node, agent);
  await until('it answers', async () => / answers RPC /.test(agent.log()));
}

const FLAVOR = {
  name: 'm1',
  flavorid: '1',
  vcpus: 1,
  memory_mb: 128,
  root_gb: 1,
  ephemeral_gb: 0,
  swap: 0,
  extra_specs: {},
};
export const instance = (task_state = 'spawning') => ({
  uuid: UUID,
  name: 'instance-0000000a',
  display_name: 'web server',
  hostname: 'web',
  project_id: 'p1',
  image_ref: IMAGE,
  metadata: {},
  system_metadata: {},
  flavor: FLAVOR,
  user_data: null,
  task_state,
});
const connectionInfo = {
  driver_volume_type: 'nfs',
  data: {
    export: EXPORT,
    name: `volume-${VOLUME}`,
    options: null,
    format: 'raw',
    access_mode: 'rw',
    encrypted: false,
    mount_point_base: '',
  },
  serial: VOLUME,
};
const devices = () => ({
  root_device_name: '/dev/sda',
  image: [],
  ephemerals: [],
  swap: null,
  block_device_mapping: [
    {
      connection_info: { ...connectionInfo, data: { ...connectionInfo.data, mount_point_base: base } },
      mount_device: '/dev/sdb',
      boot_index: null,
    },
  ],
});
export const common = () => ({ network_info: [], block_device_info: devices() });
export const migration = (source_compute: Node, dest_compute: Node) => ({
  uuid: 'm',
  migration_type: 'migration',
  source_compute,
  dest_compute,
  status: 'x',
});
export const spawnArgs = () => ({
  ...common(),
  instance: instance(),
  image_meta: { id: IMAGE, min_disk: 0 },
  injected_files: [],
  allocations: {},
  power_on: true,
  accel_info: [],
});
export const leaveArgs = (to: Node) => ({
  ...common(),
  instance: instance('resize_migrating'),
  dest: '127.0.0.1',
  flavor: FLAVOR,
  timeout: 2,
  retry_interval: 1,
  migration: migration(to === 'node2' ? 'node1' : 'node2', to),
});
export const finishArgs = (disk_info: unknown) => ({
  ...common(),
  migration: migration('node1', 'node2'),
  instance: instance('resize_finish'),
  disk_info,
  image_meta: { id: IMAGE },
  resize_instance: false,
  allocations: {},
  power_on: true,
});
export const destroyArgs = () => ({ ...common(), instance: instance(), destroy_disks: true });

export const ask = (server: Node, method: string, args: object, timeout = 90) =>
  client.ask({ method, args, server, version: '1.0', timeout, context: { request_id: 'req-nova-2' } });
export async function call(server: Node, method: string, args: object): Promise<unknown> {
  const answer = await ask(server, method, args);
  assert.equal(answer.error, undefined, `${method}: ${answer.text}\n${agents.get(server)?.log()}`);
  return answer.result;
}
export const sh = (node: Node, script: string) => worldOf(node).lxd.sh('instance-0000000a', script);
export const hostIdOf = async (node: Node) => (await list(worldOf(node)))[0]?.extents[0]?.hostId;
export const incoming = (node: Node) => {
  const path = join(worldOf(node).poolDir, 'incoming');
  return existsSync(path) ? readdirSync(path) : [];
};

export async function assertClean(node: Node): Promise<void> {
  assert.deepEqual(await list(worldOf(node)), []);
  assert.deepEqual(incoming(node), []);
  const before = clean.get(node);
  if (before) await assertHostUnchanged(before);
}

/** Of a file in its root. */
export async function bootWithData(megabytes: number): Promise<{ readonly sum: string }> {
  await call('node1', 'spawn', spawnArgs());
  await sh('node1', `dd if=/dev/urandom of=/root/big bs=1M count=${megabytes} 2>/dev/null; chown 1000:1000 /root/big`);
  await sh('node1', `echo more >> /mnt/${VOLUME}/hello`);
  return { sum: await sh('node1', 'sync; sha256sum /root/big') };
}

/** Of a clone: the image itself is mounted. */
export async function digestOfRoot(node: Node) {
  const copy = join(worldOf(node).poolDir, 'copy');
  execFileSync('cp', ['--reflink=always', await rootImage(node), copy]);
  try {
    // Taken while it was mounted: its journal is to be replayed.
    spawnSync('e2fsck', ['-p', copy], { stdio: 'ignore' });
    return await digestOnDisk(copy, 'ext4');
  } finally {
    rmSync(copy);
  }
}

const rootImage = async (node: Node) => (await list(worldOf(node))).find(a => a.role === 'root')?.image ?? '';

/** Something of the root has arrived, and not all. */
export const halfWay = () =>
  until('blocks arrive', async () => {
    const [id] = incoming('node2');
    const blocks = id && join(worldOf('node2').poolDir, 'incoming', id, 'work.blocks');
    return blocks !== undefined && (statSync(blocks, { throwIfNoEntry: false })?.size ?? 0) > 100;
  });

/** Without the process that sent it, a first pass is worth nothing. */
export async function restart(node: Node): Promise<void> {
  await agents.get(node)?.kill('SIGKILL');
  await serve(node);
}

export const confirm = () =>
  call('node1', 'confirm_migration', {
    migration: migration('node1', 'node2'),
    instance: instance(),
    network_info: [],
  });
export const savedOn = (node: Node) => {
  const path = join(worldOf(node).poolDir, 'saved');
  return existsSync(path) ? readdirSync(path) : [];
};
