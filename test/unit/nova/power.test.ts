import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ShiftvolError } from '../../../src/errors.ts';
import { versionNumber } from '../../../src/nova/host.ts';
import { SUPPORT, supportRows } from '../../../src/nova/support.ts';
import { FakeNova } from './fakes.ts';
import { devices, IMAGE, instance, raises, spawnArgs, UUID, VOLUME } from './samples.ts';

async function booted(): Promise<FakeNova> {
  const fake = new FakeNova();
  fake.templates.set(IMAGE, 1);
  await fake.call('spawn', spawnArgs());
  fake.done.length = 0;
  return fake;
}
const about = (more: object = {}) => ({
  instance: instance(),
  network_info: [],
  block_device_info: devices(),
  ...more,
});

test('the state of an instance in Nova’s words; InstanceNotFound for one that is not here', async () => {
  const fake = await booted();
  const state = async () => await fake.call('get_info', { instance: instance({ flavor: null, metadata: null }) });

  assert.deepEqual(await state(), { state: 'running' });
  await fake.call('pause', { instance: instance() });
  assert.deepEqual(await state(), { state: 'paused' });
  await fake.call('unpause', { instance: instance() });
  await fake.call('power_off', { instance: instance(), timeout: 60, retry_interval: 10 });
  assert.deepEqual(await state(), { state: 'shutdown' });
  assert.deepEqual(fake.done, ['freeze', 'unfreeze', 'stop 60000']);

  fake.machines.clear();
  const { className, kwargs } = await raises(state());
  assert.equal(className, 'InstanceNotFound');
  assert.equal(kwargs['instance_id'], UUID);
});

test('power on attaches what a reboot of the host took, then starts', async () => {
  const fake = await booted();
  await fake.call('power_off', { instance: instance(), timeout: 0, retry_interval: 0 });

  await fake.call('power_on', about({ block_device_info: devices({ id: VOLUME }), accel_info: [] }));

  assert.deepEqual(fake.done, [
    'stop now',
    `ask cinder ${VOLUME}`,
    `attach volume ${VOLUME} at /mnt/${VOLUME}`,
    'start',
  ]);
});

test('a soft reboot asks the init first, a hard one does not; both start it again', async () => {
  const fake = await booted();
  await fake.call('reboot', about({ reboot_type: 'SOFT' }));
  await fake.call('reboot', about({ reboot_type: 'HARD' }));
  assert.deepEqual(fake.done, ['stop 30000', 'start', 'stop now', 'start']);
});

test('resume ends a freeze, and is a start after a reboot of the host', async () => {
  const fake = await booted();
  await fake.call('suspend', { instance: instance() });
  await fake.call('resume', about());
  await fake.call('power_off', { instance: instance(), timeout: 0, retry_interval: 0 });
  await fake.call('resume', about());
  assert.deepEqual(fake.done, ['freeze', 'unfreeze', 'stop now', 'start']);
});

test('a failure has the class of its method', async () => {
  const table = [
    ['power_off', 'stop', 'InstancePowerOffFailure', { timeout: null }],
    ['reboot', 'stop', 'InstanceRebootFailure', { reboot_type: 'SOFT' }],
    ['suspend', 'freeze', 'InstanceSuspendFailure', {}],
  ] as const;
  for (const [method, step, className, more] of table) {
    const fake = await booted();
    fake.failing.set(step, new ShiftvolError('SV_RUNTIME', 'Cannot do it'));
    assert.equal((await raises(fake.call(method, about(more)))).className, className);
  }
});

test('console and diagnostics', async () => {
  const fake = await booted();
  assert.equal(await fake.call('get_console_output', { instance: instance() }), 'booting\n');
  assert.deepEqual(await fake.call('get_diagnostics', { instance: instance() }), {
    state: 'running',
    cpu_time_ns: 1,
    memory_bytes: 2,
    memory_peak_bytes: 3,
    pids: 4,
    eth0_rx_bytes: 5,
    eth0_tx_bytes: 6,
    eth0_rx_packets: 7,
    eth0_tx_packets: 8,
  });
});

test('the host has every key that Nova’s resource tracker wants', async () => {
  const fake = await booted();
  assert.deepEqual(await fake.call('get_available_resource', { nodename: 'node1' }), {
    vcpus: 8,
    memory_mb: 16_000,
    local_gb: 100,
    vcpus_used: 2,
    memory_mb_used: 2000,
    local_gb_used: 10,
    disk_available_least: 89,
    cpu_info: {
      arch: 'x86_64',
      model: 'm',
      vendor: 'v',
      topology: { sockets: 1, cores: 4, threads: 2 },
      features: [],
    },
    hypervisor_type: 'lxd',
    hypervisor_version: 5_000_002,
    hypervisor_hostname: 'node1',
    supported_instances: [['x86_64', 'lxd', 'exe']],
    numa_topology: null,
  });
  assert.deepEqual(await fake.call('list_instances'), ['instance-0000000c']);
  assert.deepEqual(await fake.call('list_instance_uuids'), [UUID]);
  assert.deepEqual(await fake.call('get_available_nodes'), ['node1']);
  assert.equal(await fake.call('get_host_ip_addr'), '10.0.0.7');
  assert.equal(await fake.call('get_host_uptime'), 'up 1 days, 2:03');
  assert.deepEqual(await fake.call('init_host', { host: 'node1' }), { version: '1.2.3' });
  assert.equal(await fake.call('instance_on_disk', { instance: instance() }), true);
});

test('versions of the runtime as a number', () => {
  assert.deepEqual(['5.0.2', '6.0', '5.21.3 LTS', 'none'].map(versionNumber), [5_000_002, 6_000_000, 5_021_003, 0]);
});

test('what is not supported is NotImplementedError with its name, and every method of the table can be called', async () => {
  const fake = new FakeNova();
  for (const [method, { support }] of Object.entries(SUPPORT)) {
    if (support !== 'not') continue;
    const { className, module, message } = await raises(fake.call(method, {}));
    assert.deepEqual([className, module], ['NotImplementedError', 'builtins']);
    assert.ok(message.startsWith(`${method} is not supported`));
  }
});

test('every method that Nova’s driver calls by its contract is in the table', () => {
  const contract = readFileSync(new URL('../../../deploy/nova/README.md', import.meta.url), 'utf8');
  const called = [...contract.matchAll(/^\| ([a-z_]+)(?: \*long\*)? \| .* \| .* \|$/gm)].map(([, name]) => name ?? '');
  const methods = called.filter(name => !['method', 'key', 'topic', 'rpc_timeout', 'long_rpc_timeout'].includes(name));
  assert.ok(methods.includes('spawn') && methods.length > 40);
  const missing = methods.filter(name => !(name in SUPPORT) && !name.endsWith('_timeout'));
  assert.deepEqual(missing, []);
});

test('the support matrix of deploy/OPENSTACK.md is the table of the code', () => {
  const document = readFileSync(new URL('../../../deploy/OPENSTACK.md', import.meta.url), 'utf8');
  const rows = supportRows();
  const shown = document.split('\n').filter(line => /^\| `[a-z_]+` \| (yes|in part|no) \| .*\|$/.test(line));
  assert.deepEqual(shown, rows);
});
