import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { MADE_KEY } from '../../../../src/container/lxd/machine-config.ts';
import { LxdMachines } from '../../../../src/container/lxd/machines.ts';
import { LxdRuntime } from '../../../../src/container/lxd/runtime.ts';
import { type Code, isError } from '../../../../src/errors.ts';
import { type Answers, error, fakeServer, instanceAnswer, serverAnswer } from './server.ts';

const never = new AbortController().signal;
const dir = mkdtempSync('/tmp/shiftvol-unit-');
after(() => rmSync(dir, { recursive: true }));
const patience = { unreachableMs: 50, busyMs: 300 };
const UUID = '6f70a4a5-1c2b-4c5d-8e9f-0a1b2c3d4e5f';
const SPEC = {
  name: 'c1',
  uuid: UUID,
  displayName: 'c1',
  vcpus: 1,
  memoryMb: 64,
  networks: [],
  idRange: { start: 1_048_576, count: 65536 },
};
const ours = { config: { [MADE_KEY]: '1', 'user.nova_uuid': UUID }, status: 'Stopped' };
const POOL = { metadata: { driver: 'dir', config: { source: `${dir}/pool` } } };
const throws = (code: Code, words: RegExp) => (e: unknown) => isError(e, code) && words.test(e.message);

async function withMachines(
  answers: Answers,
  use: (machines: LxdMachines, asked: readonly { method: string; url: string; body: string }[]) => Promise<void>,
) {
  await using server = await fakeServer(answers);
  using runtime = new LxdRuntime({ configured: server.socketPath, patience, timeoutMs: 4000 });
  await use(new LxdMachines(runtime, { rootsDir: '/run/x/roots', proc: dir, patience }), server.asked);
}

test('a mount that only LXD’s own namespace has, as that of a snap, keeps its container from being deleted', async () => {
  mkdirSync(`${dir}/77`);
  mkdirSync(`${dir}/self`);
  writeFileSync(`${dir}/self/mountinfo`, '');
  writeFileSync(`${dir}/77/mountinfo`, `1 1 7:0 / ${dir}/pool/containers/c1/rootfs rw - ext4 /dev/loop0 rw\n`);
  const answers: Answers = ({ url, method }) => {
    if (url === '/1.0') return serverAnswer({ server_pid: 77 });
    if (url.startsWith('/1.0/storage-pools/shiftvol')) return POOL;
    if (method === 'GET' && url.startsWith('/1.0/instances/c1?')) return instanceAnswer(ours);
    return undefined;
  };
  await withMachines(answers, async (machines, asked) => {
    await assert.rejects(machines.remove({ ref: 'c1' }, never), throws('SV_BUSY', /rootfs" is mounted/));
    assert.ok(!asked.some(a => a.method === 'DELETE'));
  });
});

test('a pool of our name with another driver is refused, before a container is made', async () => {
  const answers: Answers = ({ url }) =>
    url.startsWith('/1.0/storage-pools/shiftvol')
      ? { metadata: { driver: 'zfs', config: { source: 'tank' } } }
      : url === '/1.0'
        ? serverAnswer()
        : undefined;
  await withMachines(answers, async (machines, asked) => {
    await assert.rejects(machines.create(SPEC, never), throws('SV_RUNTIME_UNSUPPORTED', /its driver is "zfs"/));
    assert.ok(!asked.some(a => a.method === 'POST'));
  });
});

test('a pool that somebody made in the same moment is used', async () => {
  let pool = false;
  let made = false;
  mkdirSync(`${dir}/pool/containers/c1`, { recursive: true });
  mkdirSync(`${dir}/78/root${dir}/pool/containers/c1`, { recursive: true });
  const answers: Answers = ({ url, method }) => {
    if (url === '/1.0') return serverAnswer({ server_pid: 78 });
    if (url === '/1.0/storage-pools' && method === 'POST') {
      pool = true;
      return error(409, 'The storage pool already exists');
    }
    if (url.startsWith('/1.0/storage-pools/shiftvol')) return pool ? POOL : undefined;
    if (url.startsWith('/1.0/instances?') && method === 'POST') made = true;
    if (url.startsWith('/1.0/instances?')) return { metadata: [] };
    if (url.startsWith('/1.0/instances/c1?') && made)
      return instanceAnswer({ ...ours, config: { ...ours.config, 'volatile.idmap.next': IDMAP } });
    return undefined;
  };
  await withMachines(answers, async machines => {
    const { key } = await machines.create(SPEC, never);
    assert.equal(key, UUID);
  });
  assert.deepEqual(readdirSync(`${dir}/78/root${dir}/pool/containers/c1`), ['rootfs'], 'seen as LXD sees it');
});

/** LXD's words to the slower of two: of the request, and of an operation that has begun. */
const REFUSALS = [
  error(409, 'This "instances" entry already exists'),
  error(
    500,
    'Failed creating instance record: Add instance info to the database: This "instances" entry already exists',
  ),
];
for (const refusal of REFUSALS)
  for (const whose of ['ours', 'another’s'] as const)
    test(`refused with ${refusal.status} at the moment of making: ${whose === 'ours' ? 'the instance that is there is it' : 'another’s of this name stays, and is told'}`, async () => {
      let posted = false;
      mkdirSync(`${dir}/79/root${dir}/pool/containers/c1`, { recursive: true });
      const config = { 'volatile.idmap.next': IDMAP, ...(whose === 'ours' ? ours.config : {}) };
      const answers: Answers = ({ url, method }) => {
        if (url === '/1.0') return serverAnswer({ server_pid: 79 });
        if (url.startsWith('/1.0/storage-pools/shiftvol')) return POOL;
        if (url.startsWith('/1.0/instances?') && method === 'POST') {
          posted = true;
          return refusal;
        }
        if (url.startsWith('/1.0/instances?')) return { metadata: [] };
        return url.startsWith('/1.0/instances/c1?') && posted ? instanceAnswer({ ...ours, config }) : undefined;
      };
      await withMachines(answers, async (machines, asked) => {
        const made = machines.create(SPEC, never);
        if (whose === 'ours') assert.equal((await made).key, UUID);
        else await assert.rejects(made, throws('SV_INSTANCE_EXISTS', /there is "c1"/));
        assert.equal(asked.filter(a => a.method === 'POST').length, 1);
        assert.ok(!asked.some(a => a.method === 'DELETE'));
      });
    });
const IDMAP = '[{"Isuid":true,"Isgid":true,"Hostid":1048576,"Nsid":0,"Maprange":65536}]';

test('a stop that takes longer than one answer is waited for, and its end is believed', async () => {
  let waits = 0;
  let status = 'Running';
  const answers: Answers = ({ url, method }) => {
    if (url.startsWith('/1.0/instances/c1/state') && method === 'PUT')
      return { status: 202, type: 'async', operation: '/1.0/operations/1' };
    if (url.startsWith('/1.0/operations/1/wait')) {
      waits++;
      if (waits < 3) return { metadata: { status_code: 103, err: '' } };
      status = 'Stopped';
      return { metadata: { status_code: 200 } };
    }
    if (url.startsWith('/1.0/instances/c1?')) return instanceAnswer({ ...ours, status });
    return url === '/1.0' ? serverAnswer() : undefined;
  };
  await withMachines(answers, async machines => {
    await machines.stop({ ref: 'c1' }, { force: false, timeoutMs: 60_000 }, never);
    assert.equal(await machines.power({ ref: 'c1' }, never), 'stopped');
  });
  assert.equal(waits, 3);
});

test('a container that came into the wanted state by another’s hand is success, whatever LXD says', async () => {
  let status = 'Running';
  const answers: Answers = ({ url, method }) => {
    if (url.startsWith('/1.0/instances/c1/state') && method === 'PUT') {
      status = 'Stopped';
      return error(400, 'The instance is already stopped');
    }
    return url.startsWith('/1.0/instances/c1?') ? instanceAnswer({ ...ours, status }) : undefined;
  };
  await withMachines(answers, async machines => {
    await machines.stop({ ref: 'c1' }, { force: true, timeoutMs: 0 }, never);
  });
});

test('a resize keeps the description, and changes nothing but the limits', async () => {
  const answers: Answers = ({ url }) =>
    url.startsWith('/1.0/instances/c1?') ? instanceAnswer({ ...ours, description: 'for billing' }) : undefined;
  await withMachines(answers, async (machines, asked) => {
    await machines.update({ ref: 'c1' }, { memoryMb: 128 }, never);
    const patch = asked.find(a => a.method === 'PATCH');
    assert.deepEqual(JSON.parse(patch?.body ?? '{}'), {
      description: 'for billing',
      config: { 'limits.memory': '128MiB' },
    });
  });
});
