import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LxdRuntime } from '../../../../src/container/lxd/runtime.ts';
import { type Code, isError } from '../../../../src/errors.ts';
import { type Answer, type Answers, error, fakeServer, instanceAnswer, serverAnswer } from './server.ts';

const C1 = '/1.0/instances/c1?project=default';
const LIST = '/1.0/instances?recursion=1&all-projects=true';
const DEVICE = { name: 'sv-1', hostPath: '/run/sv/1', target: '/mnt/data', readOnly: false };
const DISK = { type: 'disk', source: '/run/sv/1', path: '/mnt/data' };

/** A runtime in front of a server that knows itself, c1 and what `more` says. */
async function setup(more: Answers = () => undefined) {
  const server = await fakeServer(
    async asked =>
      (await more(asked)) ??
      (asked.url === '/1.0'
        ? serverAnswer()
        : asked.method === 'GET' && asked.url === C1
          ? instanceAnswer()
          : undefined),
  );
  const patience = { unreachableMs: 200, busyMs: 1000 };
  const runtime = new LxdRuntime({ configured: server.socketPath, patience, timeoutMs: 1000 });
  return {
    runtime,
    server,
    async [Symbol.asyncDispose]() {
      runtime[Symbol.dispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

const REFUSED: readonly (readonly [string, Answer, Answer, Code, RegExp])[] = [
  [
    'a virtual machine',
    instanceAnswer({ type: 'virtual-machine' }),
    serverAnswer(),
    'SV_RUNTIME_UNSUPPORTED',
    /virtual-machine/,
  ],
  [
    'privileged by a profile',
    instanceAnswer({ expanded_config: { 'security.privileged': 'true' } }),
    serverAnswer(),
    'SV_RUNTIME_UNSUPPORTED',
    /privileged/,
  ],
  [
    'on another member',
    instanceAnswer({ location: 'host2' }),
    serverAnswer(),
    'SV_INSTANCE_NOT_FOUND',
    /it is on "host2", this is "host1"/,
  ],
  [
    'a server without idmapped mounts',
    instanceAnswer(),
    serverAnswer({ server: 'incus', kernel_features: { idmapped_mounts: 'false' } }),
    'SV_RUNTIME_UNSUPPORTED',
    /Incus 5\.0\.2 reports no idmapped mounts/,
  ],
  ['without any map', instanceAnswer({ config: {} }), serverAnswer(), 'SV_RUNTIME', /volatile\.idmap\.next/],
];

for (const [what, instance, server, code, words] of REFUSED)
  test(`an instance that cannot be used is refused with its reason: ${what}`, async () => {
    await using s = await setup(({ url }) => (url === '/1.0' ? server : url === C1 ? instance : undefined));

    await assert.rejects(s.runtime.find({ ref: 'c1' }), e => isError(e, code) && words.test(e.message) && !!e.remedy);
  });

test('a member of a cluster finds its own instances, and lists no others', async () => {
  const here = instanceAnswer({ location: 'host1', devices: { 'sv-1': DISK } }).metadata;
  const there = instanceAnswer({ name: 'c2', location: 'host2', devices: { 'sv-2': DISK } }).metadata;
  await using s = await setup(({ url }) =>
    url === LIST ? { metadata: [here, there] } : url === C1 ? { metadata: here } : undefined,
  );

  assert.equal((await s.runtime.find({ ref: 'c1' }))?.name, 'c1');
  assert.deepEqual(
    (await s.runtime.devices('sv-')).map(d => d.device),
    ['sv-1'],
  );
  assert.deepEqual(new Set((await s.runtime.usedRanges()).map(r => r.owner)), new Set(['LXD container "c1"']));
});

test('a change carries the ETag and the description, and takes a synchronous and an asynchronous answer', async () => {
  for (const operation of [{}, { status: 202, type: 'async', operation: '/1.0/operations/7' }]) {
    await using s = await setup(({ method, url }) =>
      method === 'PATCH'
        ? operation
        : url.startsWith('/1.0/operations/7/wait')
          ? { metadata: { status_code: 200, err: '' } }
          : method === 'HEAD'
            ? error(404, '')
            : undefined,
    );
    const c1 = await s.runtime.find({ ref: 'c1' });
    assert.ok(c1);

    await s.runtime.addDevice(c1, { ...DEVICE, readOnly: true });

    const patch = s.server.asked.find(a => a.method === 'PATCH');
    assert.equal(patch?.ifMatch, '"e1"');
    assert.deepEqual(JSON.parse(patch?.body ?? ''), {
      description: 'words',
      devices: { 'sv-1': { ...DISK, readonly: 'true' } },
    });
  }
});

test('removal sends back what can be written, and nothing else', async () => {
  const present = instanceAnswer({ devices: { 'sv-1': DISK, mine: { type: 'none' } } });
  await using s = await setup(({ method, url }) => (method === 'PUT' ? {} : url === C1 ? present : undefined));

  await s.runtime.removeDevice({ ref: 'c1' }, 'sv-1');

  const put = JSON.parse(s.server.asked.find(a => a.method === 'PUT')?.body ?? '');
  assert.deepEqual(Object.keys(put).toSorted(), [
    'architecture',
    'config',
    'description',
    'devices',
    'ephemeral',
    'profiles',
    'stateful',
  ]);
  assert.deepEqual(put.devices, { mine: { type: 'none' } });
});

for (const [what, refusal] of [
  ['somebody changed it meanwhile', error(412, "ETag doesn't match")],
  ['it is busy', error(400, 'Failed to create instance update operation: Instance is busy running a "stop" operation')],
  [
    'its own lock',
    error(500, 'Failed to create instance update operation: A matching non-reusable operation has now succeeded'),
  ],
  ['the server is going down', error(503, 'LXD is shutting down')],
] as const)
  test(`a change is tried again: ${what}`, async () => {
    let refusals = 3;
    await using s = await setup(({ method }) =>
      method === 'PATCH' ? (refusals-- > 0 ? refusal : {}) : method === 'HEAD' ? error(404, '') : undefined,
    );
    const c1 = await s.runtime.find({ ref: 'c1' });
    assert.ok(c1);

    await s.runtime.addDevice(c1, DEVICE);

    assert.equal(s.server.asked.filter(a => a.method === 'PATCH').length, 4);
  });

test('a change that never gets its turn ends with the reason after a while', async () => {
  await using s = await setup(({ method }) =>
    method === 'PATCH'
      ? error(400, 'Instance is busy running a "stop" operation')
      : method === 'HEAD'
        ? error(404, '')
        : undefined,
  );
  const c1 = await s.runtime.find({ ref: 'c1' });
  assert.ok(c1);

  await assert.rejects(
    s.runtime.addDevice(c1, DEVICE),
    e => isError(e, 'SV_RUNTIME') && /busy running/.test(e.message),
  );
});

test('a device that stays in the configuration after a failure is taken out again', async () => {
  let left = false;
  await using s = await setup(({ method, url }) => {
    if (method === 'HEAD') return error(404, '');
    if (method === 'PATCH') {
      left = true;
      return error(500, 'Failed to add mount for device inside container: no');
    }
    if (method === 'PUT') left = false;
    if (method === 'PUT') return {};
    return url === C1 ? instanceAnswer({ devices: left ? { 'sv-1': DISK } : {} }) : undefined;
  });
  const c1 = await s.runtime.find({ ref: 'c1' });
  assert.ok(c1);

  await assert.rejects(
    s.runtime.addDevice(c1, DEVICE),
    e => isError(e, 'SV_RUNTIME') && /inside container: no/.test(e.message) && !!e.remedy,
  );
  assert.equal(left, false);
});

test('answers that make no sense are an error of the runtime, not a crash', async () => {
  for (const metadata of [null, 7, 'x', [], { name: 7 }, {}]) {
    await using s = await setup(({ url }) => (url === C1 || url === LIST ? { metadata } : undefined));

    await assert.rejects(s.runtime.find({ ref: 'c1' }), e => isError(e, 'SV_RUNTIME'), JSON.stringify(metadata));
  }
});

test('an answer that does not come is an error after the timeout', async () => {
  await using server = await fakeServer(() => new Promise(() => {}));
  using runtime = new LxdRuntime({ configured: server.socketPath, timeoutMs: 100 });

  await assert.rejects(
    runtime.find({ ref: 'c1' }),
    e => isError(e, 'SV_RUNTIME') && e.message.includes(server.socketPath) && !!e.remedy,
  );
});
