import assert from 'node:assert/strict';
import { readFileSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { LxdRuntime } from '../../../src/container/lxd/runtime.ts';
import type { Instance } from '../../../src/engine/ports.ts';
import { isError } from '../../../src/errors.ts';
import { type Lxd, startLxd } from '../../rig/lxd.ts';
import { type MappedDir, mappedDir, mountsAt } from './mapped.ts';

/** One range for both containers, far up in root's: other tests look for free ids at the same time. */
const BASE = 9_700_000;
const own = { 'security.idmap.base': String(BASE), 'security.idmap.size': '65536' };

let lxd: Lxd;
let runtime: LxdRuntime;
let volume: MappedDir;
let mountsBefore: readonly string[];
const mounts = () => mountsAt(lxd.dir, dirname(volume.path));
let c1: Instance;
before(async () => {
  lxd = await startLxd();
  runtime = new LxdRuntime({ configured: lxd.socketPath });
  volume = mappedDir(BASE);
  await lxd.launch('c1', own);
  await lxd.launch('c2', own);
  c1 = await found('c1');
  mountsBefore = mounts();
});
beforeEach(() => assert.deepEqual(mounts(), mountsBefore, 'LXD left mounts behind on the host'));
after(async () => {
  runtime[Symbol.dispose]();
  await lxd[Symbol.asyncDispose]();
  volume[Symbol.dispose]();
  assert.deepEqual(mounts(), []);
});

const found = async (ref: string): Promise<Instance> => {
  const instance = await runtime.find({ ref });
  assert.ok(instance);
  return instance;
};
const device = (name: string, target: string, more: { hostPath?: string; readOnly?: boolean } = {}) => ({
  name,
  target,
  hostPath: more.hostPath ?? volume.path,
  readOnly: more.readOnly ?? false,
});
const deviceNames = async (name: string) => {
  const { devices } = await lxd.get(name);
  return Object.keys(Object(devices)).toSorted();
};
const owners = (name: string, target: string) => lxd.sh(name, `cd '${target}' && stat -c '%n %u:%g' *`);
const mountedInside = (name: string, target: string) =>
  lxd.sh(name, `grep -c ' ${target} ' /proc/self/mountinfo || true`).then(Number);

test('a mapped mount comes into a running container with the right owners, and goes again', async () => {
  await runtime.addDevice(c1, device('sv-1', '/mnt/data'));

  assert.equal(await owners('c1', '/mnt/data'), 'of-0 0:0\nof-1000 1000:1000\nof-70000 65534:65534');
  await lxd.sh('c1', 'echo hi > /mnt/data/new', { uid: 0 });
  assert.equal(readFileSync(`${volume.source}/new`, 'utf8'), 'hi\n');
  assert.deepEqual(await runtime.devices('sv-'), [
    { instance: 'c1', project: 'default', name: 'c1', device: 'sv-1', hostPath: volume.path, target: '/mnt/data' },
  ]);

  await runtime.removeDevice({ ref: 'c1' }, 'sv-1');
  assert.equal(await mountedInside('c1', '/mnt/data'), 0);
  assert.deepEqual(await runtime.devices('sv-'), []);
  assert.deepEqual(await deviceNames('c1'), []);
});

test('adding and removing twice is one effect', async () => {
  await runtime.addDevice(c1, device('sv-1', '/mnt/data'));
  await runtime.addDevice(c1, device('sv-1', '/mnt/data'));
  assert.equal(await mountedInside('c1', '/mnt/data'), 1);

  await runtime.removeDevice({ ref: 'c1' }, 'sv-1');
  await runtime.removeDevice({ ref: 'c1' }, 'sv-1');
  assert.equal(await mountedInside('c1', '/mnt/data'), 0);
});

test('description, configuration and other devices of the instance stay as they are', async () => {
  await lxd.api.patch('/1.0/instances/c1', {
    description: 'for billing',
    config: { 'user.note': 'mine' },
    devices: { other: { type: 'disk', source: '/usr/share', path: '/mnt/other' } },
  });
  const { config: configBefore } = await lxd.get('c1');

  await runtime.addDevice(c1, device('sv-1', '/mnt/data'));
  await runtime.removeDevice({ ref: 'c1' }, 'sv-1');

  const { config, description } = await lxd.get('c1');
  assert.equal(description, 'for billing');
  assert.deepEqual(config, configBefore);
  assert.deepEqual(await deviceNames('c1'), ['other']);
  await runtime.removeDevice({ ref: 'c1' }, 'other');
});

test('a read-only device cannot be written to, nor made writable inside', async () => {
  await runtime.addDevice(c1, device('sv-ro', '/mnt/ro', { readOnly: true }));

  const write = await lxd.exec('c1', ['sh', '-c', 'echo x > /mnt/ro/x']);
  assert.match(write.stderr, /Read-only file system/);
  assert.notEqual((await lxd.exec('c1', ['mount', '-o', 'remount,bind,rw', '/mnt/ro'])).code, 0);
  await runtime.removeDevice({ ref: 'c1' }, 'sv-ro');
});

test('targets with blanks, colons, commas, backslashes and umlauts are as good as others, also over a restart', async () => {
  const targets = ['/mnt/a b/ü', '/mnt/a:b,c', '/mnt/x\\y', '/mnt/deep/er/and/deeper', "/mnt/it's"];
  for (const [i, target] of targets.entries()) await runtime.addDevice(await found('c2'), device(`sv-${i}`, target));
  const count = () =>
    lxd.sh('c2', `grep -c ' ${volume.path.split('/').at(-1)} \\|shiftvol-mapped' /proc/self/mountinfo`);

  assert.equal(await count(), String(targets.length));
  await lxd.restart('c2');
  assert.equal(await count(), String(targets.length));

  for (const i of targets.keys()) await runtime.removeDevice({ ref: 'c2' }, `sv-${i}`);
  assert.deepEqual(await deviceNames('c2'), []);
});

test('a stopped container gets the device at its next start, and does not start without the volume', async () => {
  await lxd.stop('c2');
  await runtime.addDevice(await found('c2'), device('sv-1', '/mnt/data'));
  await runtime.addDevice(await found('c2'), device('sv-1', '/mnt/data'));
  await lxd.start('c2');
  assert.match(await owners('c2', '/mnt/data'), /^of-0 0:0$/m);

  await lxd.stop('c2');
  await runtime.addDevice(await found('c2'), device('sv-2', '/mnt/more', { hostPath: volume.source }));
  renameSync(volume.source, `${volume.source}.away`);
  await assert.rejects(lxd.start('c2'), /Missing source path/);
  renameSync(`${volume.source}.away`, volume.source);

  await runtime.removeDevice({ ref: 'c2' }, 'sv-1');
  await runtime.removeDevice({ ref: 'c2' }, 'sv-2');
  await lxd.start('c2');
  assert.equal(await mountedInside('c2', '/mnt/data'), 0);
});

test('removal succeeds where the mount inside is gone already, and where its directory is too', async () => {
  await runtime.addDevice(c1, device('sv-1', '/mnt/data'));
  await lxd.sh('c1', 'umount /mnt/data');
  await runtime.removeDevice({ ref: 'c1' }, 'sv-1');
  assert.deepEqual(await deviceNames('c1'), []);

  await runtime.addDevice(c1, device('sv-1', '/mnt/data'));
  await lxd.sh('c1', 'umount /mnt/data; rmdir /mnt/data');
  await runtime.removeDevice({ ref: 'c1' }, 'sv-1');
  assert.deepEqual(await deviceNames('c1'), []);
});

test('LXD removes the target’s directory where it is empty, and its parents and what else is there stay', async () => {
  await lxd.sh('c1', 'mkdir -p /srv/full /srv/empty; echo x > /srv/full/file');
  await runtime.addDevice(c1, device('sv-1', '/srv/full'));
  await runtime.addDevice(c1, device('sv-2', '/srv/empty'));
  await runtime.addDevice(c1, device('sv-3', '/srv/made/here'));

  for (const name of ['sv-1', 'sv-2', 'sv-3']) await runtime.removeDevice({ ref: 'c1' }, name);

  assert.equal(await lxd.sh('c1', 'ls /srv; cat /srv/full/file; ls /srv/made'), 'full\nmade\nx');
  await lxd.sh('c1', 'rm -r /srv/full /srv/made');
});

const isTaken = (words: RegExp) => (error: unknown) =>
  isError(error, 'SV_TARGET_TAKEN') && words.test(error.message) && error.field === 'target';

test('a target that another device has is refused, also one of a profile, written in another way', async () => {
  await runtime.addDevice(c1, device('sv-1', '/mnt/data'));
  await assert.rejects(runtime.addDevice(c1, device('sv-2', '/mnt/data')), isTaken(/device "sv-1" \(disk\) is there/));
  await assert.rejects(
    runtime.addDevice(c1, device('sv-1', '/mnt/other')),
    isTaken(/device "sv-1".* at "\/mnt\/data"/),
  );
  await runtime.removeDevice({ ref: 'c1' }, 'sv-1');

  await lxd.api.patch('/1.0/instances/c1', {
    devices: { odd: { type: 'disk', source: '/usr/share', path: 'mnt//odd/' } },
  });
  await assert.rejects(runtime.addDevice(c1, device('sv-1', '/mnt/odd')), isTaken(/device "odd"/));
  await runtime.removeDevice({ ref: 'c1' }, 'odd');

  await lxd.api.post('/1.0/profiles', {
    name: 'shared',
    config: {},
    devices: { common: { type: 'disk', source: '/usr/share', path: '/mnt/common' } },
  });
  await lxd.launch('c3', {}, { profiles: ['default', 'shared'] });
  await assert.rejects(runtime.addDevice(await found('c3'), device('sv-1', '/mnt/common')), isTaken(/device "common"/));
  await lxd.stop('c3');
  await lxd.delete('c3');
});

test('a file or a symlink at the target is refused and still there afterwards, running and stopped', async () => {
  await lxd.sh('c2', 'echo precious > /srv/file; mkdir -p /srv/real; ln -sf /srv/real /srv/link');
  const isSymlink = (error: unknown) => isError(error, 'SV_TARGET_INVALID') && /symbolic link/.test(error.message);
  const refusals = async () => {
    const c2 = await found('c2');
    await assert.rejects(runtime.addDevice(c2, device('sv-1', '/srv/file')), isTaken(/is a file/));
    await assert.rejects(runtime.addDevice(c2, device('sv-1', '/srv/file/below')), isTaken(/is a file/));
    await assert.rejects(runtime.addDevice(c2, device('sv-1', '/srv/link')), isSymlink);
    await assert.rejects(runtime.addDevice(c2, device('sv-1', '/srv/link/below')), isSymlink);
    assert.deepEqual(await deviceNames('c2'), []);
  };

  await refusals();
  await lxd.stop('c2');
  await refusals();
  await lxd.start('c2');

  assert.equal(await lxd.sh('c2', 'cat /srv/file; readlink /srv/link; ls /srv/real'), 'precious\n/srv/real');
});

test('a device of a container that is gone counts as removed, and cannot be added', async () => {
  await lxd.create('gone');
  const gone = await found('gone');
  await lxd.delete('gone');

  await runtime.removeDevice({ ref: 'gone' }, 'sv-1');
  await assert.rejects(runtime.addDevice(gone, device('sv-1', '/mnt/x')), error =>
    isError(error, 'SV_INSTANCE_NOT_FOUND'),
  );
});

test('a device is found and removed after its container was renamed', async () => {
  await lxd.launch('before');
  await runtime.addDevice(await found('before'), device('sv-1', '/mnt/data'));
  await lxd.stop('before');
  await lxd.api.post('/1.0/instances/before', { name: 'afterwards' });

  await runtime.removeDevice({ ref: 'before' }, 'sv-1');

  assert.deepEqual(await deviceNames('afterwards'), []);
  await lxd.delete('afterwards');
});

test('devices that come at once to one container and to several all arrive', async () => {
  const instances = [c1, await found('c2')];
  const names = ['a', 'b', 'c', 'd', 'e'];
  await Promise.all(instances.flatMap(i => names.map(n => runtime.addDevice(i, device(`sv-${n}`, `/mnt/${n}`)))));
  for (const { name } of instances) {
    assert.deepEqual(
      await deviceNames(name),
      names.map(n => `sv-${n}`),
    );
    for (const n of names) assert.equal(await mountedInside(name, `/mnt/${n}`), 1);
  }

  await Promise.all(instances.flatMap(i => names.map(n => runtime.removeDevice({ ref: i.name }, `sv-${n}`))));
  for (const { name } of instances) assert.deepEqual(await deviceNames(name), []);
});

test('another client’s changes at the same time are kept, and ours arrive', async () => {
  using second = new LxdRuntime({ configured: lxd.socketPath });
  const names = ['a', 'b', 'c', 'd'];
  await Promise.all(names.map((n, i) => (i % 2 ? runtime : second).addDevice(c1, device(`sv-${n}`, `/mnt/${n}`))));
  assert.deepEqual(
    await deviceNames('c1'),
    names.map(n => `sv-${n}`),
  );

  await Promise.all(names.map((n, i) => (i % 2 ? runtime : second).removeDevice({ ref: 'c1' }, `sv-${n}`)));
  assert.deepEqual(await deviceNames('c1'), []);
});
