import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  flavorChange,
  instanceOf,
  MACHINE_CONFIG,
  MADE_KEY,
  rootPathOf,
} from '../../../../src/container/lxd/machine-config.ts';
import { powerOf } from '../../../../src/container/lxd/machine-state.ts';
import { mountsBelow } from '../../../../src/container/lxd/mounts-below.ts';
import type { MachineSpec } from '../../../../src/container/machines.ts';
import { isError } from '../../../../src/errors.ts';

const ROOT = '/run/shiftvol/roots/0f';
const spec = (more: Partial<MachineSpec> = {}): MachineSpec => ({
  name: 'instance-0000000c',
  uuid: '6f70a4a5-1c2b-4c5d-8e9f-0a1b2c3d4e5f',
  displayName: 'web',
  vcpus: 2,
  memoryMb: 512,
  networks: [],
  idRange: { start: 1_048_576, count: 65536 },
  ...more,
});
const instance = (more: Partial<MachineSpec> = {}, rootPath = ROOT) => instanceOf(spec(more), rootPath, 'shiftvol');

test('a container is unprivileged, has the ids that were reserved, and LXD may neither change them nor start it by itself', () => {
  const { config, profiles, source, devices } = instance();

  assert.equal(config['security.idmap.isolated'], 'true');
  assert.equal(config['security.idmap.base'], '1048576');
  assert.equal(config['security.idmap.size'], '65536');
  assert.equal(config['security.protection.shift'], 'true');
  assert.equal(
    config['volatile.last_state.idmap'],
    '[{"Isuid":true,"Isgid":false,"Hostid":1048576,"Nsid":0,"Maprange":65536},{"Isuid":false,"Isgid":true,"Hostid":1048576,"Nsid":0,"Maprange":65536}]',
  );
  assert.equal(config['boot.autostart'], 'false');
  assert.equal(config['security.privileged'], undefined);
  assert.deepEqual([profiles, source], [[], { type: 'none' }]);
  assert.deepEqual(devices, { root: { type: 'disk', path: '/', pool: 'shiftvol' } });
  assert.equal(config['limits.cpu'], '2');
  assert.equal(config['limits.memory'], '512MiB');
});

test('what the container can read of its own configuration does not say where its files are', () => {
  const visible = Object.entries(instance({ projectId: 'p', userData: '#cloud-config\n' }).config).filter(([key]) =>
    /^(user|cloud-init)\./.test(key),
  );
  assert.ok(visible.length > 0);
  for (const [, value] of visible) assert.ok(!value.includes(ROOT));
});

test('the path of the root file system is read from what we made, and from nothing else', () => {
  assert.equal(rootPathOf(instance().config), ROOT);
  assert.equal(rootPathOf({ 'raw.lxc': `lxc.rootfs.path = dir:${ROOT}` }), undefined);
  assert.equal(rootPathOf({ [MADE_KEY]: '1', 'raw.lxc': 'lxc.rootfs.path = dir:/run/../etc' }), undefined);
  assert.equal(rootPathOf({ [MADE_KEY]: '1' }), undefined);
});

test('a flavor sets what is listed, with values that fit', () => {
  const { config } = instance({ config: { 'security.nesting': 'true', 'limits.cpu.allowance': '50%' } });
  assert.equal(config['security.nesting'], 'true');
  assert.equal(config['limits.cpu.allowance'], '50%');
  for (const key of Object.keys(MACHINE_CONFIG)) assert.doesNotMatch(key, /privileged|raw|intercept|idmap/);
});

test('a change of the flavor takes away what the new one does not set', () => {
  const change = flavorChange({ 'limits.processes': '100' });
  assert.equal(change['limits.processes'], '100');
  assert.equal(change['security.nesting'], '');
});

test('a domain name longer than the kernel takes is cut to its first part, labels lose what is no text', () => {
  const long = `web-1.${'x'.repeat(70)}.example`;
  assert.match(instance({ hostname: long }).config['raw.lxc'] ?? '', /^lxc\.uts\.name = web-1$/m);
  assert.equal(instance({ displayName: 'a\nb' }).description, 'a b');
});

const NIC = { name: 'eth0', mac: 'fa:16:3e:00:00:01' };
const BAD: readonly (readonly [string, Partial<MachineSpec>])[] = [
  ['name', { name: 'a/b' }],
  ['name', { name: '-a' }],
  ['name', { name: '' }],
  ['uuid', { uuid: 'x' }],
  ['vcpus', { vcpus: 0 }],
  ['memoryMb', { memoryMb: 1.5 }],
  ['hostname', { hostname: 'a b' }],
  ['hostname', { hostname: 'a\nlxc.apparmor.profile = unconfined' }],
  ['config.security.privileged', { config: { 'security.privileged': 'true' } }],
  ['config.raw.lxc', { config: { 'raw.lxc': 'x' } }],
  ['config.__proto__', { config: JSON.parse('{"__proto__":"x"}') }],
  ['config.security.nesting', { config: { 'security.nesting': 'perhaps' } }],
  ['networks[0].name', { networks: [{ ...NIC, name: 'root' }] }],
  ['networks[0].name', { networks: [{ ...NIC, name: 'a b' }] }],
  ['networks[0].mac', { networks: [{ ...NIC, mac: 'x' }] }],
  ['networks[0].bridge', { networks: [{ ...NIC, bridge: 'br0,x=y' }] }],
  ['networks[0].hostName', { networks: [{ ...NIC, hostName: 'x'.repeat(16) }] }],
  ['networks[0].mtu', { networks: [{ ...NIC, mtu: -1 }] }],
  ['networks', { networks: [NIC, NIC] }],
];
for (const [field, more] of BAD)
  test(`${field} that is not accepted is named: ${JSON.stringify(more)}`, () => {
    assert.throws(
      () => instance(more),
      error => isError(error, 'SV_USAGE') && error.field === field,
    );
  });

test('a path that would be more than a path in LXC’s configuration is refused', () => {
  for (const path of ['/a b', '/a\nlxc.cap.keep = all', 'a', '/a/../b', '/a,b'])
    assert.throws(
      () => instance({}, path),
      error => isError(error, 'SV_USAGE'),
    );
});

test('a state on the way counts as what was before', () => {
  const expected = {
    Running: 'running',
    Stopping: 'running',
    Freezing: 'running',
    Frozen: 'paused',
    Thawed: 'paused',
    Stopped: 'stopped',
    Starting: 'stopped',
    Pending: 'stopped',
    Error: 'crashed',
    Aborting: 'crashed',
  };
  for (const [status, state] of Object.entries(expected)) assert.equal(powerOf(status), state, status);
});

test('mounts are found in every namespace that is named, below the directories and not beside them', async () => {
  const proc = mkdtempSync('/tmp/shiftvol-unit-');
  const line = (point: string) => `1 1 0:1 / ${point} rw - ext4 /dev/loop0 rw\n`;
  for (const [pid, points] of [
    ['self', ['/c/a/rootfs', '/c/ab', '/other']],
    ['77', ['/d/a/disk\\040x', '/c/a/rootfs']],
  ] as const) {
    mkdirSync(`${proc}/${pid}`);
    writeFileSync(`${proc}/${pid}/mountinfo`, points.map(line).join(''));
  }
  assert.deepEqual(await mountsBelow(proc, ['self', 77, 78], ['/c/a', '/d/a']), ['/c/a/rootfs', '/d/a/disk x']);
  rmSync(proc, { recursive: true });
});
