import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { monitoredInit } from '../../../src/container/lxd/init-pid.ts';
import { LxdRuntime } from '../../../src/container/lxd/runtime.ts';
import { isError } from '../../../src/errors.ts';
import type { Idmap } from '../../../src/idmap/idmap.ts';
import { type Lxd, startLxd } from '../../rig/lxd.ts';

const UUID = '6f70a4a5-1c2b-4c5d-8e9f-0a1b2c3d4e5f';
/** Far up in root's range: other tests look for free ids at the same time. */
const BASE = 9_800_000;
const own = { 'security.idmap.isolated': 'true', 'security.idmap.base': String(BASE), 'security.idmap.size': '65536' };
const wide = { 'security.idmap.isolated': 'false' };
const NAMED = 'deadbeef-0000-4000-8000-000000000001';

let lxd: Lxd;
let runtime: LxdRuntime;
before(async () => {
  lxd = await startLxd();
  runtime = new LxdRuntime({ configured: lxd.socketPath });
  await lxd.createProject('p1');
  await lxd.createProject('p2');
  await lxd.launch('c1', { ...own, 'user.nova_uuid': UUID });
  await lxd.create('wide', wide);
  await lxd.create(NAMED);
  await lxd.create('instance-0000001a', { 'user.nova_uuid': UUID.replace('6f', '7f') });
  await lxd.launch('only', {}, { project: 'p1' });
  await lxd.create('twin', {}, { project: 'p1' });
  await lxd.create('twin', {}, { project: 'p2' });
  await lxd.launch('c1', {}, { project: 'p2' });
});
after(async () => {
  runtime[Symbol.dispose]();
  await lxd[Symbol.asyncDispose]();
});

const found = async (ref: string, project?: string) => {
  const instance = await runtime.find({ ref, ...(project === undefined ? {} : { project }) });
  assert.ok(instance, `${ref} is not found`);
  return instance;
};
const host = (map: Idmap) => map.map(e => `${e.kind} ${e.fsId} ${e.hostId} ${e.count}`);

test('a running container is found by name, with its uuid as key, its init and the map of its user namespace', async () => {
  const c1 = await found('c1');

  assert.equal(c1.key, UUID);
  assert.equal(c1.uuid, UUID);
  assert.equal(c1.project, 'default');
  assert.equal(c1.running, true);
  assert.equal(c1.pid, await lxd.initPid('c1'));
  assert.deepEqual(host(c1.idmap), [`uid 0 ${BASE} 65536`, `gid 0 ${BASE} 65536`]);
});

test('Nova’s uuid finds a container by user.nova_uuid and by its name, in either case', async () => {
  assert.equal((await found(UUID)).name, 'c1');
  assert.equal((await found(UUID.toUpperCase())).name, 'c1');
  assert.equal((await found(NAMED)).key, NAMED);
  assert.equal((await found('instance-0000001a')).key, UUID.replace('6f', '7f'));
  assert.equal((await found(UUID.replace('6f', '7f'))).name, 'instance-0000001a');
});

test('a name that no instance has is not found, whatever it looks like', async () => {
  for (const ref of ['none', '', '..', '../c1', 'c1?x=1', 'c1/snap', 'a b', '%63%31', 'ü', 'x'.repeat(300), 'c1\0'])
    assert.equal(await runtime.find({ ref }), undefined, ref);
  assert.equal(await runtime.find({ ref: 'c1', project: 'none' }), undefined);
  assert.equal(await runtime.find({ ref: UUID, project: 'p1' }), undefined);
});

test('without a project the default one comes first, then all of them', async () => {
  assert.equal((await found('c1')).project, 'default');
  assert.equal((await found('only')).project, 'p1');
  assert.equal((await found('only')).key, 'p1/only');
  assert.equal((await found('p1/only')).name, 'only');
});

test('with a project only that one is looked into', async () => {
  const other = await found('c1', 'p2');

  assert.equal(other.key, 'p2/c1');
  assert.equal(other.pid, await lxd.initPid('c1', { project: 'p2' }));
  assert.equal(await runtime.find({ ref: 'only', project: 'p2' }), undefined);
});

test('a project can be the one where names are looked for first', async () => {
  using there = new LxdRuntime({ configured: lxd.socketPath, project: 'p2' });

  assert.equal((await there.find({ ref: 'c1' }))?.project, 'p2');
});

test('a name that several projects have is an error that lists them', async () => {
  await assert.rejects(
    runtime.find({ ref: 'twin' }),
    error => isError(error, 'SV_USAGE') && /"p1"/.test(error.message) && /"p2"/.test(error.message),
  );
  assert.equal((await found('twin', 'p2')).key, 'p2/twin');
});

test('a uuid that went to another container is found there', async () => {
  const uuid = UUID.replace('6f', '8f');
  await lxd.create('old', { 'user.nova_uuid': uuid });
  assert.equal((await found(uuid)).name, 'old');

  await lxd.delete('old');
  assert.equal(await runtime.find({ ref: uuid }), undefined);
  await lxd.create('new', { 'user.nova_uuid': uuid });
  assert.equal((await found(uuid)).name, 'new');
  await lxd.create('old');
  assert.equal((await found(uuid)).name, 'new');

  await lxd.delete('old');
  await lxd.delete('new');
});

test('a stopped container has the map that LXD will give it: its own range where it is isolated', async () => {
  await lxd.create('iso', { ...own, 'security.idmap.base': '9900000' });
  const iso = await found('iso');

  assert.equal(iso.running, false);
  assert.equal(iso.pid, undefined);
  assert.deepEqual(host(iso.idmap), ['uid 0 9900000 65536', 'gid 0 9900000 65536']);

  await lxd.start('iso');
  assert.deepEqual((await found('iso')).idmap, iso.idmap);
  await lxd.stop('iso');
  await lxd.delete('iso');
});

test('a map that shares an id with the host is read as LXD has it', async () => {
  await lxd.create('holes', { ...wide, 'raw.idmap': 'both 1000 1000' });

  const { idmap } = await found('holes');

  assert.deepEqual(host(idmap.filter(e => e.kind === 'uid')), [
    'uid 0 100000 1000',
    'uid 1000 1000 1',
    'uid 1001 101001 9999000',
  ]);
  await lxd.delete('holes');
});

test('a privileged container is refused with what to do about it', async () => {
  await lxd.create('priv', { 'security.privileged': 'true' });

  await assert.rejects(
    runtime.find({ ref: 'priv' }),
    error => isError(error, 'SV_RUNTIME_UNSUPPORTED') && /privileged/.test(error.message) && error.remedy !== undefined,
  );
  assert.deepEqual(
    (await runtime.usedRanges()).filter(r => r.owner.includes('priv')),
    [],
  );
  await lxd.delete('priv');
});

test('used ranges are those of every container in every project, with who has them', async () => {
  const used = await runtime.usedRanges();

  assert.ok(used.some(r => r.kind === 'uid' && r.start === BASE && r.owner === 'LXD container "c1"'));
  assert.ok(used.some(r => r.kind === 'gid' && r.count === 10000001 && r.owner === 'LXD container "wide"'));
  assert.ok(
    used.some(r => r.kind === 'gid' && r.count === 65536 && r.owner === 'LXD container "only" in project "p1"'),
  );
});

test('the init is found without asking LXD, also where another LXD has a container of this name', async () => {
  await using other = await startLxd();
  await other.launch('c1');

  for (const [rig, container, options] of [
    [lxd, 'c1', {}],
    [lxd, 'p2_c1', { project: 'p2' }],
    [other, 'c1', {}],
  ] as const) {
    const pid = await monitoredInit(`${rig.dir}/containers`, container);
    assert.equal(pid, await rig.initPid('c1', options));
    assert.notEqual(pid, 0);
  }
  assert.equal(await monitoredInit(`${lxd.dir}/containers`, 'twin'), undefined);
  assert.equal(await monitoredInit('/elsewhere/containers', 'c1'), undefined);
});
