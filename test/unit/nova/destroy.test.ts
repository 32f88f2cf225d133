import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeNova } from './fakes.ts';
import { devices, instance, spawnArgs, UUID, VOLUME } from './samples.ts';

test('destroy stops, lets go of every volume, removes the container and its ids; nothing there is success', async () => {
  const fake = new FakeNova();
  await fake.call('spawn', spawnArgs({ block_device_info: devices({ id: VOLUME }) }));
  fake.done.length = 0;
  const args = {
    instance: instance(),
    network_info: [],
    block_device_info: devices({ id: VOLUME }),
    destroy_disks: true,
  };

  await fake.call('destroy', args);
  assert.deepEqual(fake.done, ['stop now', 'destroy all', 'remove']);
  assert.deepEqual(fake.leftovers, []);

  await fake.call('destroy', args);
  await fake.call('cleanup', args);
  assert.equal(fake.done.length, 3);
});

test('destroy without its disks lets go of volumes, and keeps root and container', async () => {
  const fake = new FakeNova();
  await fake.call('spawn', spawnArgs({ block_device_info: devices({ id: VOLUME }) }));

  await fake.call('destroy', { instance: instance(), block_device_info: devices(), destroy_disks: false });

  assert.deepEqual([fake.state(), fake.targets()], ['stopped', ['/']]);
});

test('destroy asks for nothing but the uuid: an instance that Nova knows half is deleted all the same', async () => {
  const fake = new FakeNova();
  await fake.call('spawn', spawnArgs());
  const half = { uuid: UUID, name: null, flavor: { name: 'gone' }, user_data: '%', metadata: null };
  const block_device_info = { block_device_mapping: [{ connection_info: null, mount_device: null, boot_index: null }] };

  await fake.call('destroy', { instance: half, network_info: [{}], block_device_info, destroy_disks: true });

  assert.deepEqual(fake.leftovers, []);
});

test('destroy without its disks of what boots from a volume leaves nothing: there is no disk', async () => {
  const fake = new FakeNova();
  const block_device_info = devices({ id: VOLUME, boot: true });
  await fake.call('spawn', spawnArgs({ image_meta: { id: null }, block_device_info }));

  await fake.call('destroy', { instance: instance(), block_device_info, destroy_disks: false });

  assert.deepEqual(fake.leftovers, []);
});
