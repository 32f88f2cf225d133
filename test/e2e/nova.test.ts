/** The agent as Nova's driver calls it: a Python oslo.messaging client, a real broker, real containers, real file systems. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCapability } from '../../src/kernel/capability.ts';
import { until } from '../integration/bus/helpers.ts';
import { makeRootfs } from '../rig/busybox.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { type Answer, type RpcClient, rpcClient } from '../rig/oslo/rpc.ts';
import { type Rabbit, startRabbit } from '../rig/rabbit.ts';
import { list } from './ask.ts';
import { Glance } from './glance.ts';
import { type Agent, makeWorld, type World } from './world.ts';

const IMAGE = '1a6e0000-0000-4000-8000-000000000001';
const SNAPSHOT = '1a6e0000-0000-4000-8000-000000000002';
const VOLUME = '701a0000-0000-4000-8000-000000000001';
const NEW_VOLUME = '701a0000-0000-4000-8000-000000000003';
const BOOT_VOLUME = '701a0000-0000-4000-8000-000000000002';
const EXPORT = '127.0.0.1:/export';
const GIB = 2 ** 30;

let world: World;
let rabbit: Rabbit;
let glance: Glance;
let client: RpcClient;
let agent: Agent;
let clean: HostState;
let base: string;
const scope = new AsyncDisposableStack();

before(async () => {
  [world, rabbit, glance] = await Promise.all([makeWorld(), startRabbit(), Glance.start()]);
  for (const resource of [world, rabbit, glance]) scope.use(resource);
  // LXC opens a root file system from inside the container's user namespace.
  chmodSync(world.dir, 0o711);
  client = scope.use(await rpcClient(rabbit.url));
  Object.assign(world.env, glance.env);
  const rootfs = join(world.dir, 'rootfs');
  mkdirSync(rootfs);
  await makeRootfs(rootfs);
  execFileSync('tar', ['-C', rootfs, '--numeric-owner', '-cf', `${rootfs}.tar`, '.']);
  glance.add(IMAGE, readFileSync(`${rootfs}.tar`));
  glance.add(SNAPSHOT);
  makeShare(rootfs);
  agent = await serve();
  clean = hostState(world.dir);
});
after(async () => {
  await agent?.[Symbol.asyncDispose]();
  execFileSync('umount', [share()]);
  await scope.disposeAsync();
});

/** What a test that failed has left must not fail the next one. */
afterEach(async () => {
  const { result } = await ask('list_instance_uuids');
  for (const left of Array.isArray(result) ? result : [])
    await ask('destroy', { ...destroyArgs(0), instance: instance(0, { uuid: left, task_state: 'deleting' }) });
});

/** A share that somebody mounted, with a volume of data and one to boot from. */
function makeShare(rootfs: string): void {
  base = join(world.dir, 'cinder');
  mkdirSync(share(), { recursive: true });
  execFileSync('mount', ['--bind', share(), share()]);
  const data = join(world.dir, 'data');
  mkdirSync(data);
  writeFileSync(join(data, 'hello'), 'from cinder\n');
  execFileSync('chown', ['1000:1000', join(data, 'hello')]);
  for (const [id, from] of [
    [VOLUME, data],
    [BOOT_VOLUME, rootfs],
  ] as const)
    execFileSync('mkfs.ext4', ['-q', '-d', from, join(share(), `volume-${id}`), '64M']);
}
const share = () => join(base, createHash('md5').update(EXPORT).digest('hex'));

/** Ready when it answers calls. */
async function serve(): Promise<Agent> {
  const nova = { enabled: true, live_migration: 'stop_and_move', address: '127.0.0.1' };
  const started = await world.agent(JSON.stringify({ rpc: { url: rabbit.url }, nova }));
  await until('it answers', async () => / answers RPC /.test(started.log()));
  return started;
}

const uuid = (n: number) => `0c0ffee0-0000-4000-8000-0000000000${n}`;
const flavor = (more: object = {}) => ({
  name: 'm1',
  flavorid: '1',
  vcpus: 1,
  memory_mb: 128,
  root_gb: 1,
  ephemeral_gb: 0,
  swap: 0,
  extra_specs: {},
  ...more,
});
const instance = (n: number, more: object = {}) => ({
  uuid: uuid(n),
  name: `instance-000000${n}`,
  display_name: 'web server',
  hostname: 'web',
  project_id: 'p1',
  image_ref: IMAGE,
  metadata: {},
  system_metadata: {},
  flavor: flavor(),
  user_data: null,
  task_state: 'spawning',
  ...more,
});
const connectionInfo = (id: string) => ({
  driver_volume_type: 'nfs',
  data: {
    export: EXPORT,
    name: `volume-${id}`,
    options: null,
    format: 'raw',
    access_mode: 'rw',
    encrypted: false,
    mount_point_base: base,
  },
  serial: id,
});
const devices = (...volumes: readonly { id: string; boot?: boolean }[]) => ({
  root_device_name: '/dev/sda',
  image: [],
  ephemerals: [],
  swap: null,
  block_device_mapping: volumes.map(({ id, boot = false }) => ({
    connection_info: connectionInfo(id),
    mount_device: '/dev/sdb',
    boot_index: boot ? 0 : null,
  })),
});
const spawnArgs = (n: number, more: object = {}) => ({
  instance: instance(n),
  image_meta: { id: IMAGE, min_disk: 0 },
  injected_files: [],
  allocations: {},
  network_info: [],
  block_device_info: devices(),
  power_on: true,
  accel_info: [],
  ...more,
});
const volumeArgs = (n: number) => ({
  instance: instance(n),
  connection_info: connectionInfo(VOLUME),
  mountpoint: '/dev/sdb',
  encryption: {},
});
const destroyArgs = (n: number) => ({
  instance: instance(n),
  network_info: [],
  block_device_info: devices(),
  destroy_disks: true,
});

const ask = (method: string, args: object = {}): Promise<Answer> =>
  client.ask({ method, args, server: 'node1', version: '1.0', timeout: 60, context: { request_id: 'req-nova-1' } });
async function call(method: string, args: object = {}): Promise<unknown> {
  const answer = await ask(method, args);
  assert.equal(answer.error, undefined, `${method}: ${answer.text}`);
  return answer.result;
}
/** The class that the agent named; `module` of Nova's is not installed where this runs. */
async function raised(method: string, args: object): Promise<string> {
  const { remote, error } = await ask(method, args);
  return remote?.type ?? error ?? 'nothing';
}
const sh = (n: number, script: string) => world.lxd.sh(`instance-000000${n}`, script);
const state = async (n: number) => ((await call('get_info', { instance: instance(n) })) as { state: string }).state;

async function assertNothingLeft(): Promise<void> {
  assert.deepEqual(await call('list_instances'), []);
  assert.deepEqual(await list(world), []);
  await assertHostUnchanged(clean);
}

test('the host tells Nova what it has', async () => {
  assert.deepEqual(Object.keys((await call('init_host', { host: 'node1' })) as object), ['version']);
  const resources = (await call('get_available_resource', { nodename: 'node1' })) as Record<string, unknown>;
  for (const key of [
    'vcpus',
    'memory_mb',
    'local_gb',
    'vcpus_used',
    'memory_mb_used',
    'local_gb_used',
    'hypervisor_version',
  ])
    assert.ok(Number.isSafeInteger(resources[key]), `${key}: ${resources[key]}`);
  assert.ok(Number(resources['vcpus']) > 0 && Number(resources['memory_mb']) > 0);
  const connector = (await call('get_volume_connector', { instance: null })) as Record<string, unknown>;
  assert.deepEqual([connector['host'], connector['ip']], ['node1', '127.0.0.1']);
});

test('concurrent boots of an image import it once; a volume is shifted in, busy is refused, destroy lets go of all', async () => {
  await Promise.all([call('spawn', spawnArgs(11)), call('spawn', spawnArgs(12))]);
  assert.equal(glance.images.get(IMAGE)?.downloads, 2, 'a look at its first bytes, and one download');
  assert.deepEqual(((await call('list_instance_uuids')) as string[]).toSorted(), [uuid(11), uuid(12)]);
  assert.equal(await sh(11, 'stat -c %u:%g / /home/app'), '0:0\n1000:1000');
  assert.ok(
    Number((await sh(11, "df -k / | tail -1 | awk '{print $2}'")).trim()) > 900_000,
    'as large as the flavor says',
  );

  await call('attach_volume', volumeArgs(11));
  await call('attach_volume', volumeArgs(11));
  assert.equal(
    await sh(11, `stat -c '%u %g' /mnt/${VOLUME}/hello; cat /mnt/${VOLUME}/hello`),
    '1000 1000\nfrom cinder',
  );
  assert.equal(
    await raised('attach_volume', volumeArgs(12)),
    'VolumeAttachFailed',
    'it is attached to another instance',
  );

  await sh(11, `cd /mnt/${VOLUME} && (sleep 100 >/dev/null 2>&1 &)`);
  assert.equal(await raised('detach_volume', volumeArgs(11)), 'DeviceDetachFailed');
  assert.equal(await sh(11, `cat /mnt/${VOLUME}/hello`), 'from cinder');
  assert.equal(await raised('detach_volume', volumeArgs(12)), 'DiskNotFound');

  // Nova does not call detach_volume when an instance is deleted; the process in it goes with it.
  await call('destroy', destroyArgs(11));
  await call('destroy', destroyArgs(12));
  await call('destroy', destroyArgs(12));
  assert.equal(await raised('get_info', { instance: instance(11) }), 'InstanceNotFound');
  await assertNothingLeft();
});

test('power, reboot, console, and a restart of the agent in between', async () => {
  await call('spawn', spawnArgs(13, { block_device_info: devices({ id: VOLUME }) }));
  await sh(13, 'echo kept > /root/file');
  await call('pause', { instance: instance(13) });
  assert.equal(await state(13), 'paused');
  await call('unpause', { instance: instance(13) });

  await agent.kill('SIGKILL');
  agent = await serve();
  await call('reboot', {
    instance: instance(13),
    network_info: [],
    reboot_type: 'HARD',
    block_device_info: devices({ id: VOLUME }),
  });
  assert.equal(await sh(13, `cat /root/file /mnt/${VOLUME}/hello`), 'kept\nfrom cinder');
  await call('power_off', { instance: instance(13), timeout: 2, retry_interval: 1 });
  assert.equal(await state(13), 'shutdown');
  await call('power_on', { instance: instance(13), network_info: [], block_device_info: devices({ id: VOLUME }) });
  assert.equal(await state(13), 'running');
  assert.equal(typeof (await call('get_console_output', { instance: instance(13) })), 'string');
  assert.ok(
    Number(((await call('get_diagnostics', { instance: instance(13) })) as Record<string, unknown>)['pids']) > 0,
  );

  await call('destroy', destroyArgs(13));
  await assertNothingLeft();
});

test('a snapshot is uploaded as a qcow2 without holes, which boots again, while the instance runs on', async () => {
  await call('spawn', spawnArgs(14));
  await sh(14, 'echo in the snapshot > /root/file; sync');

  await call('snapshot', { instance: instance(14), image_id: SNAPSHOT });

  const uploaded = glance.images.get(SNAPSHOT);
  assert.equal(uploaded?.diskFormat, 'qcow2');
  assert.ok((uploaded?.data?.length ?? 0) < 64 * 2 ** 20, `${uploaded?.data?.length}`);
  assert.equal(await state(14), 'running');
  await call('spawn', spawnArgs(20, { image_meta: { id: SNAPSHOT, min_disk: 0 } }));
  assert.equal(await sh(20, 'cat /root/file'), 'in the snapshot');
  for (const n of [14, 20]) await call('destroy', destroyArgs(n));
  await assertNothingLeft();
});

test('a resize within the host grows the root; taken back it is there with all that it had; deleted, nothing is left', async () => {
  const migration = {
    uuid: 'm',
    migration_type: 'resize',
    source_compute: 'node1',
    dest_compute: 'node1',
    status: 'x',
  };
  // An ext4 in use is grown with a capability that a root in a container may lack.
  const rootGb = hasCapability('/proc', 'SYS_RESOURCE') ? 2 : 1;
  const larger = { flavor: flavor({ memory_mb: 256, root_gb: rootGb }) };
  const leave = () => ({
    instance: instance(15),
    dest: '127.0.0.1',
    flavor: larger.flavor,
    network_info: [],
    block_device_info: devices({ id: VOLUME }),
    timeout: 2,
    retry_interval: 1,
    migration,
  });
  const finish = (disk_info: unknown) => ({
    migration,
    instance: instance(15, larger),
    disk_info,
    network_info: [],
    image_meta: { id: IMAGE },
    resize_instance: true,
    allocations: {},
    block_device_info: devices({ id: VOLUME }),
    power_on: true,
  });
  await call('spawn', spawnArgs(15, { block_device_info: devices({ id: VOLUME }) }));
  await sh(15, 'echo kept > /root/file');
  const small = { ...leave(), flavor: flavor({ root_gb: 0 }) };
  assert.equal(await raised('migrate_disk_and_power_off', small), 'ResizeError');

  await call('finish_migration', finish(await call('migrate_disk_and_power_off', leave())));
  assert.ok(Number((await sh(15, "df -k / | tail -1 | awk '{print $2}'")).trim()) * 1024 > 0.9 * rootGb * GIB);
  await call('destroy', { ...destroyArgs(15), instance: instance(15, { ...larger, task_state: 'resize_reverting' }) });
  assert.equal(await state(15), 'shutdown');
  await call('finish_revert_migration', {
    instance: instance(15),
    network_info: [],
    migration,
    block_device_info: devices({ id: VOLUME }),
    power_on: true,
  });
  assert.equal(await sh(15, `cat /root/file /mnt/${VOLUME}/hello`), 'kept\nfrom cinder');

  await call('destroy', { ...destroyArgs(15), instance: instance(15, { task_state: 'deleting' }) });
  await assertNothingLeft();
});

test('boot from a volume; live migration stops, lets go, and comes up where the volumes are', async () => {
  const bdi = devices({ id: BOOT_VOLUME, boot: true }, { id: VOLUME });
  const args = { instance: instance(16), network_info: [], block_device_info: bdi };
  await call('spawn', spawnArgs(16, { image_meta: { id: null }, block_device_info: bdi }));
  await sh(16, 'echo on the volume > /root/file');
  assert.equal(await call('check_can_live_migrate_source', { ...args, dest_check_data: null }), null);

  await call('live_migration', { instance: instance(16), dest: 'node2', block_migration: false, migrate_data: null });
  assert.deepEqual(
    (await list(world)).map(a => a.target),
    [],
  );
  // One agent plays both hosts here.
  await call('post_live_migration_at_destination', { ...args, block_migration: false });
  assert.equal(await sh(16, `cat /root/file /mnt/${VOLUME}/hello`), 'on the volume\nfrom cinder');

  await call('destroy', destroyArgs(16));
  await assertNothingLeft();
});

test('an agent that is killed in a boot leaves what the next destroy takes away', async () => {
  for (const ms of [30, 120, 400]) {
    const cut = client.ask({ method: 'spawn', args: spawnArgs(18), server: 'node1', version: '1.0', timeout: 2 });
    await sleep(ms);
    await agent.kill('SIGKILL');
    agent = await serve();
    await cut;
    await call('destroy', destroyArgs(18));
    await assertNothingLeft();
  }
});

test('all of an instance stands still between quiesce and unquiesce, and grows when its volume did', async () => {
  await call('spawn', spawnArgs(19, { block_device_info: devices({ id: VOLUME }) }));
  await call('quiesce', { instance: instance(19), image_meta: {} });
  // Nova may ask twice: what stands still stands still.
  await call('quiesce', { instance: instance(19), image_meta: {} });
  await call('unquiesce', { instance: instance(19), image_meta: {} });
  await sh(19, `echo moves again > /mnt/${VOLUME}/file`);

  if (hasCapability('/proc', 'SYS_RESOURCE')) {
    truncateSync(join(share(), `volume-${VOLUME}`), 128 * 2 ** 20);
    const requested_size = 128 * 2 ** 20;
    await call('extend_volume', { instance: instance(19), connection_info: connectionInfo(VOLUME), requested_size });
    const kib = await sh(19, `df -k /mnt/${VOLUME} | tail -1 | awk '{print $2}'`);
    assert.ok(Number(kib) > 100_000, kib);
  }
  await call('destroy', destroyArgs(19));
  await assertNothingLeft();
});

test('a volume that Cinder moves: copied to a blank one, in use until then; held or not blank it stays what it was', async () => {
  const swapArgs = (n: number) => ({
    instance: instance(n),
    old_connection_info: connectionInfo(VOLUME),
    new_connection_info: connectionInfo(NEW_VOLUME),
    mountpoint: '/dev/sdb',
    resize_to: 0,
  });
  const file = join(share(), `volume-${NEW_VOLUME}`);
  const at = `/mnt/${VOLUME}`;
  await call('spawn', spawnArgs(21, { block_device_info: devices({ id: VOLUME }) }));
  writeFileSync(file, 'somebody’s');
  truncateSync(file, 80 * 2 ** 20);
  assert.equal(await raised('swap_volume', swapArgs(21)), 'VolumeRebaseFailed');
  assert.match(readFileSync(file, 'utf8'), /^somebody’s/);
  truncateSync(file, 0);
  truncateSync(file, 80 * 2 ** 20);
  await sh(21, `cd ${at} && (sleep 100 >/dev/null 2>&1 & echo $! > /root/holder)`);
  assert.equal(await raised('swap_volume', swapArgs(21)), 'VolumeRebaseFailed');
  await sh(21, `echo written until now > ${at}/last; kill $(cat /root/holder)`);

  // What was cut off and what failed has left nothing that is in the way.
  await call('swap_volume', swapArgs(21));
  await call('swap_volume', swapArgs(21));

  assert.equal(
    await sh(21, `cat ${at}/hello ${at}/last; stat -c %u ${at}/hello`),
    'from cinder\nwritten until now\n1000',
  );
  await sh(21, `echo on the new one > ${at}/new; sync`);
  const [now] = await list(world);
  assert.equal((await list(world)).find(a => a.target === at)?.volumeId, NEW_VOLUME, `${now?.target}`);
  execFileSync('debugfs', ['-R', 'cat /last', join(share(), `volume-${VOLUME}`)], { stdio: 'ignore' });
  // Back again, while it stands still; under the id that Cinder goes on with after a migration.
  await call('power_off', { instance: instance(21), timeout: 2, retry_interval: 1 });
  truncateSync(join(share(), `volume-${VOLUME}`), 0);
  truncateSync(join(share(), `volume-${VOLUME}`), 80 * 2 ** 20);
  await call('swap_volume', {
    ...swapArgs(21),
    old_connection_info: { ...connectionInfo(NEW_VOLUME), serial: VOLUME },
    new_connection_info: connectionInfo(VOLUME),
  });
  await call('power_on', { instance: instance(21), network_info: [], block_device_info: devices({ id: VOLUME }) });
  assert.equal(await sh(21, `cat ${at}/hello ${at}/new`), 'from cinder\non the new one');

  await call('detach_volume', volumeArgs(21));
  await call('destroy', destroyArgs(21));
  await assertNothingLeft();
});

test('an agent that is killed in a swap leaves the old volume or the new one, with all that it held, and the other let go', async () => {
  const file = join(share(), `volume-${NEW_VOLUME}`);
  const at = `/mnt/${VOLUME}`;
  const args = {
    instance: instance(22),
    old_connection_info: connectionInfo(VOLUME),
    new_connection_info: connectionInfo(NEW_VOLUME),
    mountpoint: '/dev/sdb',
    resize_to: 0,
  };
  await call('spawn', spawnArgs(22, { block_device_info: devices({ id: VOLUME }) }));
  let volumeId: string | undefined = VOLUME;
  for (const ms of [150, 400, 700, 900, 1100]) {
    if (volumeId !== VOLUME) break;
    writeFileSync(file, '');
    truncateSync(file, 80 * 2 ** 20);
    await sh(22, `echo ${ms} > ${at}/last; sync`);
    const cut = client.ask({ method: 'swap_volume', args, server: 'node1', version: '1.0', timeout: 2 });
    await sleep(ms);
    await agent.kill('SIGKILL');
    agent = await serve();
    await cut;

    volumeId = (await list(world)).find(a => a.target === at)?.volumeId;
    assert.ok(volumeId === VOLUME || volumeId === NEW_VOLUME, volumeId);
    assert.equal(
      await sh(22, `cat ${at}/hello ${at}/last; echo ${ms} moves > ${at}/moves; cat ${at}/moves`),
      `from cinder\n${ms}\n${ms} moves`,
    );
  }
  await call('destroy', destroyArgs(22));
  await assertNothingLeft();
});

test('a boot that fails leaves nothing, and the reason has no secret and no path of ours in a stack', async () => {
  const info = {
    ...connectionInfo(VOLUME),
    data: { ...connectionInfo(VOLUME).data, name: 'volume-none', auth_password: 'hunter2' },
  };
  const bdi = {
    ...devices(),
    block_device_mapping: [{ connection_info: info, mount_device: '/dev/sdb', boot_index: null }],
  };

  const { remote } = await ask('spawn', spawnArgs(17, { block_device_info: bdi }));

  assert.equal(remote?.type, 'InstanceDeployFailure');
  assert.doesNotMatch(JSON.stringify(remote), /hunter2|\.ts:/);
  assert.doesNotMatch(agent.log(), /hunter2|keystone-password/);
  await assertNothingLeft();
});

test('what is not there is NotImplementedError, by name', async () => {
  const { error, text } = await ask('rescue', { instance: instance(18) });
  assert.match(String(error), /NotImplementedError/);
  assert.match(String(text), /rescue is not supported by shiftvol/);
});

test('every call is in the log with its request, its instance and how long it took', () => {
  assert.match(
    agent.log(),
    /INFO shiftvol \[req-nova-1\] \[instance: 0c0ffee0-[0-9a-f-]+\] spawn ms=|INFO shiftvol \[req-nova-1\] \[instance: 0c0ffee0-[0-9a-f-]+\] destroy .*ms=/,
  );
});
