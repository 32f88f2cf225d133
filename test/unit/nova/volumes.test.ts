import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Code, ShiftvolError } from '../../../src/errors.ts';
import { toRemote } from '../../../src/nova/errors.ts';
import { FakeNova } from './fakes.ts';
import {
  connectionInfo,
  devices,
  flavor,
  GIB,
  IMAGE,
  instance,
  OTHER_VOLUME,
  raises,
  spawnArgs,
  UUID,
  VOLUME,
} from './samples.ts';

async function booted(): Promise<FakeNova> {
  const fake = new FakeNova();
  fake.templates.set(IMAGE, 1);
  await fake.call('spawn', spawnArgs());
  fake.done.length = 0;
  return fake;
}
const attachArgs = (more: object = {}) => ({
  instance: instance(),
  connection_info: connectionInfo(),
  mountpoint: '/dev/sdb',
  disk_bus: null,
  device_type: null,
  encryption: {},
  ...more,
});

test('a volume is attached once, however often it is asked for, and found by its id at the detach', async () => {
  const fake = await booted();

  await fake.call('attach_volume', attachArgs());
  await fake.call('attach_volume', attachArgs());
  await fake.call('detach_volume', attachArgs());

  assert.deepEqual(fake.done, [
    `ask cinder ${VOLUME}`,
    `attach volume ${VOLUME} at /mnt/${VOLUME}`,
    `detach /mnt/${VOLUME}`,
  ]);
});

test('a volume that Cinder gives for reading is mounted read-only', async () => {
  const fake = await booted();
  await fake.call('attach_volume', attachArgs({ connection_info: connectionInfo(VOLUME, { access_mode: 'ro' }) }));
  assert.deepEqual(
    [...fake.attachments.values()].filter(a => a.plan.role === 'volume').map(a => a.plan.readOnly),
    [true],
  );
});

test('where a volume goes: server metadata, flavor, volume metadata, default; the first that is there', async () => {
  const target = async (metadata: object, extra_specs: object, volume: Readonly<Record<string, string>>) => {
    const fake = await booted();
    fake.volumeMetadata.set(VOLUME, volume);
    await fake.call('attach_volume', attachArgs({ instance: instance({ metadata, flavor: flavor({ extra_specs }) }) }));
    return fake.targets().at(-1);
  };
  const byFlavor = { 'shiftvol:path': '/flavor/{volume_id}' };
  const byVolume = { shiftvol_path: '/volume' };

  assert.equal(await target({}, {}, {}), `/mnt/${VOLUME}`);
  assert.equal(await target({}, {}, byVolume), '/volume');
  assert.equal(await target({}, byFlavor, byVolume), `/flavor/${VOLUME}`);
  assert.equal(
    await target({ 'shiftvol:path': '/server/{instance_name}' }, byFlavor, byVolume),
    '/server/instance-0000000c',
  );
  assert.equal(
    await target({ 'shiftvol:path': '/server', [`shiftvol:path:${VOLUME}`]: '/this' }, byFlavor, byVolume),
    '/this',
  );
  assert.equal(await target({ [`shiftvol_path_${VOLUME}`]: '/that' }, byFlavor, byVolume), '/that');
});

test('a path that is none is InvalidVolume, and nothing is attached', async () => {
  for (const path of ['relative', '/', '/a/../b', '/proc/x', '/dev', '/a/', '/a\u0000b']) {
    const fake = await booted();
    const metadata = { 'shiftvol:path': path };
    const { className } = await raises(fake.call('attach_volume', attachArgs({ instance: instance({ metadata }) })));
    assert.equal(className, 'InvalidVolume', path);
    assert.deepEqual(fake.targets(), ['/']);
  }
});

test('while Cinder is away a volume goes to the default path', async () => {
  const fake = await booted();
  fake.failing.set('ask cinder', new ShiftvolError('SV_OPENSTACK', 'Cannot reach Cinder'));

  await fake.call('attach_volume', attachArgs());

  assert.deepEqual(fake.targets(), ['/', `/mnt/${VOLUME}`]);
  assert.ok(fake.logged.some(({ text }) => text.includes('Cannot reach Cinder')));
});

test('a failed attach is what Nova has for it, by its reason', async () => {
  const table: readonly (readonly [Code, string])[] = [
    ['SV_VOLUME_NOT_FOUND', 'VolumeNotFound'],
    ['SV_IMAGE_REFUSED', 'InvalidVolume'],
    ['SV_CONNECTION_INFO', 'InvalidVolume'],
    ['SV_CONNECTION', 'VolumeAttachFailed'],
    ['SV_VOLUME_IN_USE', 'VolumeAttachFailed'],
    ['SV_INSTANCE_NOT_FOUND', 'InstanceNotFound'],
    ['SV_INTERNAL', 'VolumeAttachFailed'],
  ];
  for (const [code, className] of table) {
    const fake = await booted();
    fake.failing.set('attach', new ShiftvolError(code, 'Cannot attach'));
    const error = await raises(fake.call('attach_volume', attachArgs()));
    assert.equal(error.className, className, code);
    assert.equal(error.module, 'nova.exception');
    assert.deepEqual(error.args, ['Cannot attach']);
  }
  const fake = await booted();
  const encrypted = await raises(
    fake.call('attach_volume', attachArgs({ connection_info: connectionInfo(VOLUME, { encrypted: true }) })),
  );
  assert.equal(encrypted.className, 'InvalidVolume');
});

test('a detach that finds it busy is DeviceDetachFailed with who holds it; one that was not attached is DiskNotFound', async () => {
  const fake = await booted();
  const absent = await raises(fake.call('detach_volume', attachArgs()));
  assert.deepEqual([absent.className, absent.kwargs], ['DiskNotFound', { location: '/dev/sdb' }]);

  await fake.call('attach_volume', attachArgs());
  fake.failing.set('detach', new ShiftvolError('SV_BUSY', 'Cannot unmount "/mnt/x": process 77 (sleep)'));
  const busy = await raises(fake.call('detach_volume', attachArgs()));
  assert.deepEqual(
    [busy.className, busy.kwargs],
    ['DeviceDetachFailed', { device: '/dev/sdb', reason: 'Cannot unmount "/mnt/x": process 77 (sleep)' }],
  );
  assert.deepEqual(fake.targets(), ['/', `/mnt/${VOLUME}`]);
});

test('a volume that is the root is let go of when the instance is stopped, not while it runs', async () => {
  const fake = new FakeNova();
  await fake.call(
    'spawn',
    spawnArgs({ image_meta: { id: null }, block_device_info: devices({ id: VOLUME, boot: true }) }),
  );

  assert.equal((await raises(fake.call('detach_volume', attachArgs()))).className, 'DeviceDetachFailed');
  await fake.call('power_off', { instance: instance(), timeout: 0, retry_interval: 0 });
  await fake.call('detach_volume', attachArgs());

  assert.deepEqual(fake.targets(), []);
});

test('extend takes bytes; of a volume that is not attached it is VolumeNotFound', async () => {
  const fake = await booted();
  const args = { instance: instance(), connection_info: connectionInfo(), requested_size: 2 ** 31 };
  assert.equal((await raises(fake.call('extend_volume', args))).className, 'VolumeNotFound');

  await fake.call('attach_volume', attachArgs());
  await fake.call('extend_volume', args);

  assert.equal(fake.done.at(-1), `extend ${VOLUME} ${2 ** 31}`);
});

test('a snapshot opens the root, uploads it into Nova’s image, and closes it, also when the upload fails', async () => {
  const fake = await booted();
  await fake.call('snapshot', { instance: instance(), image_id: IMAGE });
  assert.deepEqual(fake.done, ['open root image', `upload ${IMAGE} 4`, 'close root image']);

  fake.failing.set('upload', new ShiftvolError('SV_OPENSTACK_NOT_FOUND', 'Glance has no such image'));
  const error = await raises(fake.call('snapshot', { instance: instance(), image_id: IMAGE }));
  assert.deepEqual([error.className, error.kwargs['image_id']], ['ImageNotFound', IMAGE]);
  assert.equal(fake.done.at(-1), 'close root image');
});

test('arguments that do not fit name the field, and never a value', async () => {
  const fake = await booted();
  const secret = { driver_volume_type: 'iscsi', data: { auth_password: 'hunter2' }, serial: 'hunter2' };

  const { className, message } = await raises(fake.call('attach_volume', attachArgs({ connection_info: secret })));

  assert.equal(className, 'InvalidVolume');
  assert.match(message, /"connection_info\.serial"/);
  assert.doesNotMatch(message, /hunter2/);
});

test('no secret of a connection is logged', async () => {
  const fake = await booted();
  await fake.call(
    'attach_volume',
    attachArgs({ connection_info: connectionInfo(OTHER_VOLUME, { auth_password: 'hunter2' }) }),
  );
  assert.doesNotMatch(JSON.stringify(fake.logged), /hunter2/);
  assert.deepEqual(fake.logged.at(-1)?.text, 'attach_volume');
});

test('an error of Nova’s own passes as it is, and an unknown one has the class of its method', () => {
  const once = toRemote(new Error('boom'), { method: 'power_off' });
  assert.equal(once.className, 'InstancePowerOffFailure');
  assert.equal(toRemote(once, { method: 'spawn' }), once);
  assert.equal(toRemote(new Error('boom'), { method: 'pause' }).className, 'NovaException');
});

test('another volume takes the place of one, and is found by both of their ids: which one Nova goes on with, it does not say', async () => {
  const fake = await booted();
  await fake.call('attach_volume', attachArgs());
  fake.done.length = 0;
  const swapArgs = {
    old_connection_info: connectionInfo(),
    new_connection_info: connectionInfo(OTHER_VOLUME),
    instance: instance(),
    mountpoint: '/dev/sdb',
  };

  await fake.call('swap_volume', { ...swapArgs, resize_to: 2 });
  await fake.call('extend_volume', { ...attachArgs(), requested_size: GIB });
  await fake.call('attach_volume', attachArgs());
  await fake.call('detach_volume', attachArgs());

  assert.deepEqual(fake.done, [
    `swap ${VOLUME} ${OTHER_VOLUME} and grow`,
    `extend ${OTHER_VOLUME} ${GIB}`,
    `detach /mnt/${VOLUME}`,
  ]);
  const lost = await raises(fake.call('swap_volume', { ...swapArgs, resize_to: 0 }));
  assert.equal(lost.className, 'VolumeRebaseFailed');
});

test('every command of a call is told under its request, and is another one for the engine each time', async () => {
  const fake = await booted();
  await fake.call('attach_volume', attachArgs());
  await fake.call('detach_volume', attachArgs());
  await fake.call('attach_volume', attachArgs());

  const volume = fake.requests.filter(id => id.includes(VOLUME));
  assert.equal(new Set(fake.requests).size, fake.requests.length);
  assert.deepEqual(
    volume.map(id => id.replace(/#\d+$/, '')),
    ['attach', 'detach', 'attach'].map(action => `${action}/${UUID}/${VOLUME}/req-1`),
  );
});
