import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShiftvolError } from '../../../src/errors.ts';
import { FakeNova } from './fakes.ts';
import { devices, flavor, GIB, IMAGE, instance, OTHER_VOLUME, raises, spawnArgs, UUID, VOLUME } from './samples.ts';

const bothVolumes = devices({ id: VOLUME, boot: true }, { id: OTHER_VOLUME });
const toNode2 = { uuid: 'm', migration_type: 'migration', source_compute: 'node1', dest_compute: 'node2', status: 'x' };
const toNode1 = { ...toNode2, migration_type: 'resize', dest_compute: 'node1' };

async function booted(block_device_info = devices({ id: VOLUME }), image: string | null = IMAGE): Promise<FakeNova> {
  const fake = new FakeNova();
  fake.templates.set(IMAGE, GIB);
  await fake.call('spawn', spawnArgs({ image_meta: { id: image }, block_device_info }));
  fake.done.length = 0;
  return fake;
}
const leave = (fake: FakeNova, more: object = {}) =>
  fake.call('migrate_disk_and_power_off', {
    instance: instance(),
    dest: '10.0.0.8',
    flavor: flavor(),
    network_info: [],
    block_device_info: devices({ id: VOLUME }),
    timeout: 60,
    retry_interval: 10,
    migration: toNode1,
    ...more,
  });
const arrive = (fake: FakeNova, disk_info: unknown, more: object = {}) =>
  fake.call('finish_migration', {
    migration: toNode1,
    instance: instance(),
    disk_info,
    network_info: [],
    image_meta: { id: IMAGE },
    resize_instance: true,
    allocations: {},
    block_device_info: devices({ id: VOLUME }),
    power_on: true,
    ...more,
  });

test('a resize on one host: stopped, let go of, new limits, the root grown, volumes back, started; then confirmed', async () => {
  const fake = await booted();
  const larger = flavor({ name: 'm2', vcpus: 4, memory_mb: 1024, root_gb: 5 });

  const diskInfo = await leave(fake, { flavor: larger });
  assert.deepEqual([fake.state(), fake.targets()], ['stopped', ['/']]);
  await arrive(fake, diskInfo, { instance: instance({ flavor: larger }) });

  assert.deepEqual(fake.done, [
    'stop 60000',
    `detach /mnt/${VOLUME}`,
    'limit 4 1024',
    `grow root ${5 * GIB}`,
    `ask cinder ${VOLUME}`,
    `attach volume ${VOLUME} at /mnt/${VOLUME}`,
    'start',
  ]);

  await fake.call('confirm_migration', { migration: toNode1, instance: instance(), network_info: [] });
  assert.deepEqual([fake.state(), fake.targets()], ['running', ['/', `/mnt/${VOLUME}`]]);
  // Deleted afterwards it goes, whatever it was before.
  await fake.call('destroy', { instance: instance({ task_state: 'deleting' }), destroy_disks: true });
  assert.deepEqual(fake.leftovers, []);
});

test('a resize on one host that is taken back: Nova’s destroy of "the new one" does not take the old one', async () => {
  const fake = await booted();
  const larger = flavor({ vcpus: 4, memory_mb: 1024 });
  await arrive(fake, await leave(fake, { flavor: larger }), { instance: instance({ flavor: larger }) });

  await fake.call('destroy', {
    instance: instance({ flavor: larger, task_state: 'resize_reverting' }),
    block_device_info: devices({ id: VOLUME }),
    destroy_disks: true,
  });
  assert.deepEqual([fake.state(), fake.targets()], ['stopped', ['/']]);
  await fake.call('finish_revert_migration', {
    instance: instance({ task_state: 'resize_reverting' }),
    network_info: [],
    migration: toNode1,
    block_device_info: devices({ id: VOLUME }),
    power_on: true,
  });

  assert.deepEqual([fake.state(), fake.targets()], ['running', ['/', `/mnt/${VOLUME}`]]);
  assert.equal(fake.machines.get(UUID)?.vcpus, 2);
  assert.deepEqual(fake.notes.get(UUID), {});
});

test('a smaller disk is a ResizeError, and nothing has happened', async () => {
  const fake = await booted();
  const { className, message } = await raises(leave(fake, { flavor: flavor({ root_gb: 1 }) }));
  assert.equal(className, 'ResizeError');
  assert.match(message, /3 GiB, the new flavor 1 GiB/);
  assert.deepEqual([fake.done, fake.state()], [[], 'running']);
});

test('a root on this host’s disk does not go to another host, and nothing has happened', async () => {
  const fake = await booted();
  const { className, message } = await raises(leave(fake, { migration: toNode2 }));
  assert.equal(className, 'MigrationError');
  assert.match(message, /on the disk of "node1"/);
  assert.deepEqual([fake.done, fake.state()], [[], 'running']);
});

test('booted from a volume it moves: let go of here, mounted there; the source goes when Nova confirms', async () => {
  const source = await booted(bothVolumes, null);
  const dest = new FakeNova('node2');

  const diskInfo = await leave(source, { migration: toNode2, block_device_info: bothVolumes });
  assert.deepEqual([source.state(), source.targets()], ['stopped', []]);
  assert.ok(String(diskInfo).length < 200);
  await arrive(dest, diskInfo, { migration: toNode2, block_device_info: bothVolumes, image_meta: { id: null } });
  assert.deepEqual(dest.done, [
    'create',
    'limit 2 512',
    `spawn volume ${VOLUME} at /`,
    `ask cinder ${OTHER_VOLUME}`,
    `attach volume ${OTHER_VOLUME} at /mnt/${OTHER_VOLUME}`,
    'start',
    'moved from node1',
  ]);

  await source.call('confirm_migration', { migration: toNode2, instance: instance(), network_info: [] });
  assert.deepEqual(source.leftovers, []);
  await source.call('confirm_migration', { migration: toNode2, instance: instance(), network_info: [] });
});

test('taken back, the destination has nothing left and the source is as it was', async () => {
  const source = await booted(bothVolumes, null);
  const dest = new FakeNova('node2');
  const diskInfo = await leave(source, { migration: toNode2, block_device_info: bothVolumes });
  await arrive(dest, diskInfo, { migration: toNode2, block_device_info: bothVolumes });

  await dest.call('destroy', { instance: instance({ task_state: 'resize_reverting' }), destroy_disks: true });
  await source.call('finish_revert_migration', {
    instance: instance(),
    migration: toNode2,
    block_device_info: bothVolumes,
    power_on: true,
  });

  assert.deepEqual(dest.leftovers, []);
  assert.deepEqual([source.state(), source.targets()], ['running', ['/', `/mnt/${OTHER_VOLUME}`]]);
});

test('an arrival that fails leaves nothing on the destination', async () => {
  const source = await booted(bothVolumes, null);
  const dest = new FakeNova('node2');
  const diskInfo = await leave(source, { migration: toNode2, block_device_info: bothVolumes });
  dest.failing.set('attach', new ShiftvolError('SV_MOUNT', 'Cannot mount'));

  const { className } = await raises(arrive(dest, diskInfo, { migration: toNode2, block_device_info: bothVolumes }));

  assert.equal(className, 'MigrationError');
  assert.deepEqual(dest.leftovers, []);
});

test('a leaving that fails half way is put back and runs again', async () => {
  const source = await booted(bothVolumes, null);
  source.failing.set('destroy /', new ShiftvolError('SV_BUSY', 'Cannot unmount: process 1 (host)'));

  const { className } = await raises(leave(source, { migration: toNode2, block_device_info: bothVolumes }));

  assert.equal(className, 'MigrationError');
  assert.deepEqual([source.state(), source.targets().toSorted()], ['running', ['/', `/mnt/${OTHER_VOLUME}`]]);
  assert.deepEqual(source.notes.get(UUID), {});
});

test('with a transfer of roots one on this host’s disk moves too', async () => {
  const source = await booted(devices());
  const dest = new FakeNova('node2');
  const told: string[] = [];
  source.transfer = {
    sends: true,
    sendAhead: async (_, to) => void told.push(`ahead to ${to}, ${source.state()}`),
    send: async (_, to) => `token for ${to}`,
    receive: async () => {},
    end: async (_, to) => void told.push(`end ${to ?? ''}`),
  };
  source.restart();
  const received: string[] = [];
  dest.transfer = {
    sends: true,
    sendAhead: async () => {},
    send: async () => '',
    receive: async (_, text) => void received.push(text),
    end: async () => {},
  };

  const diskInfo = await leave(source, { migration: toNode2, block_device_info: devices() });
  assert.deepEqual([source.state(), source.targets()], ['stopped', ['/']]);
  const answer = await arrive(dest, diskInfo, { migration: toNode2, block_device_info: devices() });

  assert.deepEqual(received, ['token for node2']);
  assert.deepEqual(told, ['ahead to node2, running']);
  const { down_ms } = answer as { down_ms: number };
  assert.ok(down_ms >= 0 && down_ms < 60_000, `${down_ms} ms`);
  assert.ok(dest.logged.some(({ text, facts }) => text.startsWith('moved here from "node1"') && 'down_ms' in facts));
  assert.ok(dest.done.includes('moved from node1'));
  await source.call('confirm_migration', { migration: toNode2, instance: instance(), network_info: [] });
  assert.deepEqual(told, ['ahead to node2, running', 'end ']);
});

test('what went ahead of a move that fails afterwards is forgotten at the other host, and the instance runs on', async () => {
  const source = await booted();
  const ended: string[] = [];
  source.transfer = {
    sends: true,
    sendAhead: async () => {},
    send: async () => {
      throw new ShiftvolError('SV_STORE', 'Cannot write the offer');
    },
    receive: async () => {},
    end: async (_, to) => void ended.push(to ?? ''),
  };
  source.restart();

  const { className } = await raises(leave(source, { migration: toNode2 }));

  assert.equal(className, 'MigrationError');
  assert.deepEqual(ended, ['node2']);
  assert.deepEqual([source.state(), source.targets()], ['running', ['/', `/mnt/${VOLUME}`]]);
});

test('disk_info that is none of ours is refused', async () => {
  for (const text of ['', '{}', '{"v":2,"source":"x","root":{"kind":"here"}}', 'nonsense']) {
    const dest = new FakeNova('node2');
    assert.equal((await raises(arrive(dest, text))).className, 'MigrationError', text);
    assert.deepEqual(dest.leftovers, []);
  }
});

test('a move that the agent’s end cuts off is put back all the same', async () => {
  const fake = await booted(bothVolumes, null);
  const told = AbortSignal.abort();

  const args = {
    instance: instance(),
    dest: '10.0.0.8',
    flavor: flavor(),
    block_device_info: bothVolumes,
    timeout: 60,
  };
  const error = await raises(fake.call('migrate_disk_and_power_off', { ...args, migration: toNode2 }, told));

  assert.equal(error.className, 'MigrationError');
  assert.deepEqual(
    [fake.state(), fake.targets(), fake.notes.get(UUID)],
    ['running', ['/', `/mnt/${OTHER_VOLUME}`], {}],
  );
});

test('one that was to move and was started here again is not taken away by the confirmation of that move', async () => {
  const fake = await booted(bothVolumes, null);
  await leave(fake, { block_device_info: bothVolumes, migration: toNode2 });
  await fake.call('reboot', {
    instance: instance(),
    network_info: [],
    block_device_info: bothVolumes,
    reboot_type: 'HARD',
  });

  await fake.call('confirm_migration', { migration: toNode2, instance: instance(), network_info: [] });

  assert.deepEqual([fake.state(), fake.targets()], ['running', ['/', `/mnt/${OTHER_VOLUME}`]]);
});
