import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { InstanceRef } from '../../../src/engine/model.ts';
import type { Code } from '../../../src/errors.ts';
import { isError } from '../../../src/errors.ts';
import { umount2 } from '../../../src/kernel/mount.ts';
import { statx } from '../../../src/kernel/statx.ts';
import { assertHostUnchanged, type HostState, hostState } from '../../rig/host.ts';
import { FORCED, type MachineWorld, makeMachineWorld, never, restart, uuidFor } from './machine-world.ts';

let w: MachineWorld;
let hostBefore: HostState;
before(async () => {
  w = await makeMachineWorld();
  hostBefore = hostState(w.world.dir);
});
after(async () => {
  // Whatever was left behind is told, and taken away nevertheless.
  await using _ = w;
  await assertHostUnchanged(hostBefore);
});

test('a container boots on a snapshot of the template, unprivileged, with the right owners inside and on the host', async () => {
  const name = 'instance-00000001';
  const instance = await w.boot(name, { hostname: 'web-1' });
  const { rootPath = '' } = instance;

  assert.equal(instance.key, uuidFor(name));
  assert.equal(await w.machines.power({ ref: instance.key }, never), 'running');
  const inside = await w.world.lxd.sh(
    name,
    "stat -c '%n %u:%g %a' / /home/app /srv/of-33 /bin/su-box; hostname; id -u",
  );
  assert.equal(inside, '/ 0:0 755\n/home/app 1000:1000 755\n/srv/of-33 33:33 644\n/bin/su-box 0:0 4755\nweb-1\n0');
  const [uid] = instance.idmap;
  assert.equal(statx(`${rootPath}/srv/of-33`).uid, (uid?.hostId ?? 0) + 33);
  const [row = ''] = (await w.world.lxd.sh(name, "grep ' / / ' /proc/self/mountinfo")).split('\n');
  assert.match(row, /nodev/);
  assert.match(row, /idmapped/);
  assert.doesNotMatch(row, /nosuid/);

  await w.unmake(instance.key);
  assert.equal(await w.machines.power({ ref: instance.key }, never), undefined);
  assert.equal(existsSync(rootPath), false);
  assert.deepEqual(w.engine.list(), []);
});

const refOf = (name: string): InstanceRef => ({ ref: uuidFor(name) });
const power = (name: string) => w.machines.power(refOf(name), never);
const throws = (code: Code, words: RegExp) => (error: unknown) => isError(error, code) && words.test(error.message);

test('making, starting, stopping and removing twice is one effect', async () => {
  const name = 'instance-00000002';
  const once = await w.create(name);
  const twice = await w.create(name);
  assert.deepEqual(twice, once);
  await w.spawn(once.key);
  await w.spawn(once.key);

  await w.machines.start(refOf(name), never);
  await w.machines.start(refOf(name), never);
  const pid = await w.world.lxd.initPid(name);
  await restart(w, refOf(name), FORCED);
  assert.notEqual(await w.world.lxd.initPid(name), pid);
  await w.machines.stop(refOf(name), FORCED, never);
  await w.machines.stop(refOf(name), FORCED, never);
  assert.equal(await power(name), 'stopped');

  await w.unmake(once.key);
  await w.machines.remove(refOf(name), never);
});

test('a container that was left half made is completed', async () => {
  const name = 'instance-0000000d';
  const { key } = await w.create(name);
  rmdirSync(join(w.world.lxd.dir, 'storage-pools/shiftvol/containers', name, 'rootfs'));
  await w.boot(name);
  assert.equal(await power(name), 'running');
  await w.unmake(key);
});

test('two makers of one instance at once make one container', async () => {
  const name = 'instance-00000003';
  const [one, other] = await Promise.all([w.create(name), w.create(name)]);
  assert.equal(one.rootPath, other.rootPath);
  assert.deepEqual(
    (await w.machines.list(never)).map(m => m.name),
    [name],
  );
  await w.unmake(one.key);
});

test('containers that are made at once have ids of their own, disjoint from those of containers that LXD made', async () => {
  const names = Array.from({ length: 6 }, (_, i) => `many-${i}`);
  await w.world.lxd.create('lxds-own');
  const made = await Promise.all(names.map(name => w.create(name)));
  const used = (await w.runtime.usedRanges(never)).filter(r => r.kind === 'uid').toSorted((a, b) => a.start - b.start);

  assert.equal(used.length, names.length + 1);
  for (const [i, range] of used.entries())
    assert.ok(range.start >= (used[i - 1]?.start ?? 0) + (used[i - 1]?.count ?? 0), `${range.owner} overlaps`);

  await Promise.all(made.map(({ key }) => w.unmake(key)));
  await w.world.lxd.delete('lxds-own');
  assert.deepEqual(await w.machines.list(never), []);
});

test('a name, a uuid or ids that another container has are refused, and nothing is left of the attempt', async () => {
  const { idmap, key } = await w.create('taken');
  const start = idmap[0]?.hostId ?? 0;
  const uuid = uuidFor('other');

  await assert.rejects(w.create('taken', { uuid }), throws('SV_INSTANCE_EXISTS', /there is "taken"/));
  await assert.rejects(w.create('other', { uuid: uuidFor('taken') }), throws('SV_INSTANCE_EXISTS', /there is "taken"/));
  const overlapping = { idRange: { start: start + 1000, count: 65536 } };
  await assert.rejects(w.create('other', overlapping), throws('SV_RANGE_TAKEN', /"taken" has ids/));
  assert.deepEqual(
    (await w.machines.list(never)).map(m => m.name),
    ['taken'],
  );

  await w.unmake(key);
  for (const ref of [uuid, uuidFor('other')]) await w.engine.releaseIds({ ref }, false, never);
});

test('what a flavor may not set is refused before anything is made', async () => {
  for (const key of ['security.privileged', 'raw.lxc', 'raw.idmap', 'security.syscalls.intercept.mount', 'limits.cpu'])
    await assert.rejects(w.create('bad', { config: { [key]: 'true' } }), throws('SV_USAGE', /may not set/));
  await assert.rejects(
    w.create('bad', { hostname: 'a\nlxc.apparmor.profile = unconfined' }),
    throws('SV_USAGE', /hostname/),
  );
  assert.deepEqual(await w.machines.list(never), []);
  await w.engine.releaseIds(refOf('bad'), false, never);
});

test('a container does not start without its root file system, and says so', async () => {
  const name = 'instance-00000004';
  const { key, rootPath = '' } = await w.create(name);
  await assert.rejects(w.machines.start(refOf(name), never), throws('SV_ATTACHMENT_NOT_FOUND', /is not mounted at/));
  // Nor does LXD start it by itself: on nothing, or on an empty directory.
  await assert.rejects(w.world.lxd.start(name), /No such file or directory - Failed to open/);
  mkdirSync(rootPath, { mode: 0o700 });
  await assert.rejects(w.world.lxd.start(name), /Permission denied/);
  assert.deepEqual(readdirSync(rootPath), []);
  rmdirSync(rootPath);

  await w.spawn(key);
  await w.machines.start(refOf(name), never);
  assert.equal(await power(name), 'running');
  await w.unmake(key);
});

test('a start that fails says what the container’s log says, and works when that is mended', async () => {
  const name = 'instance-0000000b';
  const { key } = await w.boot(name);
  await w.world.lxd.sh(name, 'mv /sbin /elsewhere');
  await w.machines.stop(refOf(name), FORCED, never);
  await assert.rejects(
    w.machines.start(refOf(name), never),
    throws('SV_RUNTIME', /Cannot start instance "instance-0000000b": LXC says ".*Failed to exec/),
  );
  await w.unmake(key);
});

test('removal is refused while it runs, while its root file system is mounted, and while anything is below its directories', async () => {
  const name = 'instance-00000005';
  const { key, rootPath = '' } = await w.boot(name);
  const refused = (words: RegExp) => assert.rejects(w.machines.remove(refOf(name), never), throws('SV_BUSY', words));
  await refused(/it is running/);
  await w.machines.stop(refOf(name), FORCED, never);
  await refused(/root file system is mounted/);
  await w.engine.execute({ action: 'destroy', instance: refOf(name), lazy: false }, never);
  assert.equal(existsSync(rootPath), false);
  // As LXD leaves it when it was killed in the middle of a change of a device.
  const left = join(w.world.lxd.dir, 'devices', name, 'disk.sv-x');
  mkdirSync(left, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', 'none', left]);
  await refused(/disk\.sv-x" is mounted/);
  umount2(left, { lazy: false });

  await w.machines.remove(refOf(name), never);
  assert.equal(await power(name), undefined);
  assert.equal(existsSync(key), false);
});

test('what shiftvol did not make it neither lists nor removes nor changes', async () => {
  await w.world.lxd.create('foreign');
  assert.deepEqual(await w.machines.list(never), []);
  await assert.rejects(w.machines.remove({ ref: 'foreign' }, never), throws('SV_USAGE', /did not make it/));
  await assert.rejects(
    w.machines.update({ ref: 'foreign' }, { vcpus: 2 }, never),
    throws('SV_USAGE', /did not make it/),
  );
  await w.world.lxd.delete('foreign');
});

test('what is not there has no power state, and cannot be started', async () => {
  assert.equal(await power('none'), undefined);
  await assert.rejects(w.machines.start(refOf('none'), never), throws('SV_INSTANCE_NOT_FOUND', /Cannot find/));
});

test('pause stops its processes, and start lets a paused one go on', async () => {
  const name = 'instance-00000006';
  const { key } = await w.boot(name);

  await w.machines.freeze(refOf(name), never);
  await w.machines.freeze(refOf(name), never);
  assert.equal(await power(name), 'paused');
  await w.machines.unfreeze(refOf(name), never);
  await w.machines.unfreeze(refOf(name), never);
  assert.equal(await power(name), 'running');
  await w.machines.freeze(refOf(name), never);
  await w.machines.start(refOf(name), never);
  assert.equal(await power(name), 'running');
  await w.machines.freeze(refOf(name), never);
  await w.machines.stop(refOf(name), { force: false, timeoutMs: 5000 }, never);
  assert.equal(await power(name), 'stopped');
  await assert.rejects(w.machines.freeze(refOf(name), never), throws('SV_USAGE', /it is stopped/));

  await w.unmake(key);
});

test('an init that ends in its time is not killed, one that does not is', async () => {
  const name = 'instance-00000007';
  const { key } = await w.boot(name);
  const begun = performance.now();
  await w.machines.stop(refOf(name), { force: false, timeoutMs: 20_000 }, never);
  assert.ok(performance.now() - begun < 10_000, 'it was not waited for longer than it took');

  await w.machines.start(refOf(name), never);
  await w.world.lxd.sh(name, 'sed -i "s/exit 0/:/" /sbin/init');
  await restart(w, refOf(name), FORCED);
  const started = performance.now();
  await w.machines.stop(refOf(name), { force: false, timeoutMs: 1500 }, never);
  assert.ok(performance.now() - started > 1400, 'it was given its time');
  assert.equal(await power(name), 'stopped');

  await w.unmake(key);
});

test('limits are those of the flavor, and a resize takes effect in the running container', async () => {
  const name = 'instance-00000008';
  const { key } = await w.boot(name, { vcpus: 1, memoryMb: 64, config: { 'security.nesting': 'true' } });
  const config = async () => Object((await w.world.lxd.get(name))['config']);
  assert.equal((await config())['security.nesting'], 'true');

  await w.machines.update(refOf(name), { vcpus: 2, memoryMb: 96, config: { 'limits.processes': '200' } }, never);

  const now = await config();
  assert.equal(now['limits.memory'], '96MiB');
  assert.equal(now['limits.processes'], '200');
  assert.equal(now['security.nesting'], undefined);
  const [machine] = await w.machines.list(never);
  assert.deepEqual(machine, { name, uuid: key, displayName: name, state: 'running', vcpus: 2, memoryMb: 96 });
  await w.unmake(key);
});

test('its console and its figures can be read while it runs', async () => {
  const name = 'instance-00000009';
  const { key } = await w.boot(name);
  const say = (text: string) => w.world.lxd.sh(name, `echo "${text}" > /dev/console`);
  const read = (maxBytes = 100_000) => w.machines.console(refOf(name), { maxBytes }, never);
  assert.equal(await read(), '');
  await say('boot message 1');
  assert.match(await read(), /^boot message 1\s*$/);
  await say('boot message 2');
  assert.match(await read(), /^boot message 1\s+boot message 2\s*$/);
  assert.match(await read(), /^boot message 1\s+boot message 2\s*$/);
  assert.equal((await read(10)).length, 10);
  const figures = await w.machines.diagnostics(refOf(name), never);
  assert.equal(figures.state, 'running');
  assert.ok(figures.pids >= 1 && figures.memoryBytes > 0 && figures.cpuNs > 0);
  assert.ok(figures.uptimeS !== undefined && figures.uptimeS < 60);

  await w.machines.stop(refOf(name), FORCED, never);
  assert.equal(typeof (await read()), 'string');
  assert.equal((await w.machines.diagnostics(refOf(name), never)).state, 'stopped');
  await w.unmake(key);
});

test('networks come in with their addresses: in a bridge, or with an end on the host for somebody to plug', async () => {
  const name = 'instance-0000000a';
  execFileSync('ip', ['link', 'add', 'svbr0', 'type', 'bridge']);
  try {
    const networks = [
      { name: 'eth0', mac: 'FA:16:3e:00:00:01', bridge: 'svbr0', hostName: 'tapsv-1', mtu: 1400 },
      { name: 'eth1', mac: 'fa:16:3e:00:00:02', hostName: 'tapsv-2' },
    ];
    const { key } = await w.boot(name, { networks });

    assert.equal(
      await w.world.lxd.sh(name, 'cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu'),
      'fa:16:3e:00:00:01\n1400',
    );
    assert.equal(await w.world.lxd.sh(name, 'cat /sys/class/net/eth1/address'), 'fa:16:3e:00:00:02');
    assert.match(execFileSync('ip', ['link', 'show', 'tapsv-1'], { encoding: 'utf8' }), /master svbr0/);
    assert.ok(existsSync('/sys/class/net/tapsv-2'));
    assert.equal((await w.machines.diagnostics(refOf(name), never)).networks.length, 2);
    await w.unmake(key);
    assert.equal(existsSync('/sys/class/net/tapsv-2'), false);
  } finally {
    execFileSync('ip', ['link', 'del', 'svbr0']);
  }
});
