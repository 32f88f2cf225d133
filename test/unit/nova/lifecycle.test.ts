import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RemoteError } from '../../../src/bus/rpc/endpoint.ts';
import { ShiftvolError } from '../../../src/errors.ts';
import { FakeNova } from './fakes.ts';
import { devices, GIB, IMAGE, instance, OTHER_VOLUME, raises, spawnArgs, UUID, VOLUME } from './samples.ts';

test('a spawn makes the image’s template, the container, its root, its volumes, and starts it', async () => {
  const fake = new FakeNova();

  await fake.call('spawn', spawnArgs({ block_device_info: devices({ id: VOLUME }) }));

  assert.deepEqual(fake.done, [
    `import ${IMAGE}`,
    'create',
    `spawn template ${IMAGE} of ${3 * GIB} at /`,
    `ask cinder ${VOLUME}`,
    `attach volume ${VOLUME} at /mnt/${VOLUME}`,
    'start',
  ]);
  const { spec } = fake.machines.get(UUID) ?? {};
  assert.deepEqual(
    { ...spec, config: undefined },
    {
      name: 'instance-0000000c',
      uuid: UUID,
      displayName: 'web server',
      projectId: 'p1',
      hostname: 'web',
      vcpus: 2,
      memoryMb: 512,
      networks: [],
      idRange: { start: 1_000_000, count: 65_536 },
      config: undefined,
    },
  );
});

test('the same spawn twice changes nothing the second time', async () => {
  const fake = new FakeNova();
  await fake.call('spawn', spawnArgs({ block_device_info: devices({ id: VOLUME }) }));
  const before = fake.done.length;

  await fake.call('spawn', spawnArgs({ block_device_info: devices({ id: VOLUME }) }));

  assert.equal(fake.done.length, before);
});

test('many boots of one image at once import it once, and each boots', async () => {
  const fake = new FakeNova();
  const { promise, resolve } = Promise.withResolvers<void>();
  fake.importing = promise;
  const uuids = Array.from({ length: 20 }, (_, i) => `0c0ffee0-0000-4000-8000-0000000000${i + 10}`);

  const boots = uuids.map(uuid => fake.call('spawn', spawnArgs({ instance: instance({ uuid }) })));
  await new Promise(setImmediate);
  assert.deepEqual(fake.done, [`import ${IMAGE}`]);
  resolve();
  await Promise.all(boots);

  assert.equal(fake.done.filter(what => what.startsWith('import')).length, 1);
  assert.equal(fake.machines.size, 20);
});

test('an import that fails fails all who wait for it, and the next boot tries again', async () => {
  const fake = new FakeNova();
  fake.failing.set('import', new ShiftvolError('SV_CHECKSUM', 'Cannot use the image: its hash is another one'));

  const [one, two] = await Promise.all([
    raises(fake.call('spawn', spawnArgs())),
    raises(fake.call('spawn', spawnArgs())),
  ]);
  assert.deepEqual([one.className, two.className], ['ImageUnacceptable', 'ImageUnacceptable']);
  assert.equal(one.kwargs['image_id'], IMAGE);
  assert.deepEqual(fake.leftovers, []);

  fake.failing.clear();
  await fake.call('spawn', spawnArgs());
  assert.equal(fake.state(), 'running');
});

test('an import by another process is waited for', async () => {
  const fake = new FakeNova();
  fake.failing.set('import', new ShiftvolError('SV_LOCKED', 'another import of this name is running'));
  const boot = fake.call('spawn', spawnArgs());
  await new Promise(resolve => setTimeout(resolve, 20));
  fake.templates.set(IMAGE, GIB);

  await boot;

  assert.equal(fake.state(), 'running');
});

for (const step of ['create', 'spawn', 'attach', 'start'])
  test(`a spawn that fails at "${step}" leaves nothing`, async () => {
    const fake = new FakeNova();
    fake.failing.set(
      step,
      new ShiftvolError('SV_RUNTIME', 'Cannot do it: the runtime says no', { remedy: 'look at its log' }),
    );
    const args = spawnArgs({ block_device_info: devices({ id: VOLUME }) });

    const error = await raises(fake.call('spawn', args));

    assert.equal(error.className, 'InstanceDeployFailure');
    assert.equal(error.message, 'Cannot do it: the runtime says no (look at its log)');
    assert.deepEqual(fake.leftovers, []);
  });

test('a spawn that fails leaves a container that was there before, with all that it has', async () => {
  const fake = new FakeNova();
  await fake.call('spawn', spawnArgs());
  fake.failing.set('attach', new ShiftvolError('SV_MOUNT', 'Cannot mount'));

  await raises(fake.call('spawn', spawnArgs({ block_device_info: devices({ id: VOLUME }) })));

  assert.equal(fake.state(), 'running');
  assert.deepEqual(fake.targets(), ['/']);
});

test('a failure of taking back is told beside the reason for it', async () => {
  const fake = new FakeNova();
  fake.failing.set('start', new ShiftvolError('SV_RUNTIME', 'Cannot start'));
  fake.failing.set('destroy', new ShiftvolError('SV_BUSY', 'Cannot unmount: process 77 (sleep)'));

  const { className, message } = await raises(fake.call('spawn', spawnArgs()));

  assert.deepEqual([className, message], ['NovaException', 'Cannot start: Cannot unmount: process 77 (sleep)']);
});

test('booted from a volume, that is the root, and no image is asked for', async () => {
  const fake = new FakeNova();

  await fake.call(
    'spawn',
    spawnArgs({
      instance: instance({ image_ref: '' }),
      image_meta: { id: null, min_disk: null },
      block_device_info: devices({ id: OTHER_VOLUME }, { id: VOLUME, boot: true }),
    }),
  );

  assert.deepEqual(fake.done, [
    'create',
    `spawn volume ${VOLUME} at /`,
    `ask cinder ${OTHER_VOLUME}`,
    `attach volume ${OTHER_VOLUME} at /mnt/${OTHER_VOLUME}`,
    'start',
  ]);
});

test('flavors: the root disk is as large as the flavor says, and never smaller than the image', async () => {
  const boot = async (root_gb: number, min_disk = 0) => {
    const fake = new FakeNova();
    const spec = { name: 'f', vcpus: 1, memory_mb: 64, root_gb, extra_specs: {} };
    const work = fake.call(
      'spawn',
      spawnArgs({ instance: instance({ flavor: spec }), image_meta: { id: IMAGE, min_disk } }),
    );
    return await work.then(
      () => fake.done.find(what => what.startsWith('spawn')),
      (error: RemoteError) => `${error.className}: ${error.message}`,
    );
  };

  assert.equal(await boot(0), `spawn template ${IMAGE} at /`);
  assert.equal(await boot(1), `spawn template ${IMAGE} at /`);
  assert.equal(await boot(5), `spawn template ${IMAGE} of ${5 * GIB} at /`);
  assert.equal(await boot(0, 2), `spawn template ${IMAGE} of ${2 * GIB} at /`);
  assert.equal(
    await boot(1, 2),
    'InvalidInput: Cannot boot "instance-0000000c": the root disk of flavor "f" has 1 GiB, the image needs 2 GiB (choose a flavor with a larger disk, or with 0 for the size of the image)',
  );
});

test('what a container would not get is refused before anything is done', async () => {
  const table = [
    [{ injected_files: ['/etc/motd'] }, 'injected files'],
    [{ block_device_info: { block_device_mapping: [], ephemerals: [{ size: 1 }], swap: null } }, 'an ephemeral disk'],
    [{ block_device_info: { block_device_mapping: [], ephemerals: [], swap: { swap_size: 64 } } }, 'a swap disk'],
    [{ accel_info: [{}] }, 'an accelerator'],
  ] as const;
  for (const [more, what] of table) {
    const fake = new FakeNova();
    const { className, message } = await raises(fake.call('spawn', spawnArgs(more)));
    assert.equal(className, 'InvalidInput');
    assert.ok(message.includes(what), message);
    assert.deepEqual(fake.done, []);
  }
});

test('ports: a Linux bridge is entered, the host’s end for Open vSwitch is left to its agent, an unbound one is refused', async () => {
  const port = (type: string) => ({
    address: 'fa:16:3e:00:00:01',
    type,
    devname: 'tap1234abcd-56',
    network: { bridge: 'brq1', meta: { mtu: 1450 } },
  });
  const networks = async (type: string) => {
    const fake = new FakeNova();
    await fake.call('spawn', spawnArgs({ network_info: [port(type)] }));
    return fake.machines.get(UUID)?.spec.networks;
  };
  const common = { name: 'eth0', mac: 'fa:16:3e:00:00:01', hostName: 'tap1234abcd-56', mtu: 1450 };

  assert.deepEqual(await networks('bridge'), [{ ...common, bridge: 'brq1' }]);
  assert.deepEqual(await networks('ovs'), [common]);
  await assert.rejects(networks('binding_failed'), { className: 'InstanceDeployFailure' });
});

test('keys of the runtime come from the flavor, a name that is none for a container is replaced, user data is decoded', async () => {
  const fake = new FakeNova();
  const spec = {
    name: 'f',
    vcpus: 1,
    memory_mb: 64,
    root_gb: 0,
    extra_specs: { 'lxd:security.nesting': 'true', 'hw:x': '1' },
  };

  await fake.call(
    'spawn',
    spawnArgs({
      instance: instance({ name: UUID, flavor: spec, user_data: Buffer.from('#cloud-config\n').toString('base64') }),
    }),
  );

  const made = fake.machines.get(UUID)?.spec;
  assert.equal(made?.name, `i-${UUID}`);
  assert.deepEqual(made?.config, { 'security.nesting': 'true' });
  assert.equal(made?.userData, '#cloud-config\n');
});

test('calls for one instance are done one after the other, looking is not held up', async () => {
  const fake = new FakeNova();
  const { promise, resolve } = Promise.withResolvers<void>();
  fake.importing = promise;
  const boot = fake.call('spawn', spawnArgs());
  const gone = fake.call('destroy', { instance: instance(), destroy_disks: true });

  const { className } = await raises(fake.call('get_info', { instance: instance() }));
  resolve();
  await Promise.all([boot, gone]);

  assert.equal(className, 'InstanceNotFound');
  assert.deepEqual(fake.leftovers, []);
  assert.deepEqual(fake.done.slice(-4), ['start', 'stop now', 'destroy all', 'remove']);
});

test('an image whose template is there and cannot be used is an error, and not asked for again and again', async () => {
  const fake = new FakeNova();
  fake.failing.set('import', new ShiftvolError('SV_TEMPLATE_EXISTS', 'Cannot import: there is one of this name'));

  assert.equal((await raises(fake.call('spawn', spawnArgs()))).className, 'InstanceDeployFailure');
});
