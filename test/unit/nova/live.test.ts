import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShiftvolError } from '../../../src/errors.ts';
import type { Departure } from '../../../src/nova/ports.ts';
import { FakeNova } from './fakes.ts';
import { devices, GIB, IMAGE, instance, OTHER_VOLUME, raises, spawnArgs, VOLUME } from './samples.ts';

const bothVolumes = devices({ id: VOLUME, boot: true }, { id: OTHER_VOLUME });

async function booted(block_device_info = devices({ id: VOLUME }), image: string | null = IMAGE): Promise<FakeNova> {
  const fake = new FakeNova();
  fake.templates.set(IMAGE, GIB);
  await fake.call('spawn', spawnArgs({ image_meta: { id: image }, block_device_info }));
  fake.done.length = 0;
  return fake;
}
const checkDest = { instance: instance(), block_migration: false, disk_over_commit: false };
const checkSource = { instance: instance(), dest_check_data: null, block_device_info: bothVolumes };

test('live migration is refused before it begins, and the text says what there is instead', async () => {
  const fake = await booted(bothVolumes, null);
  for (const [method, args] of [
    ['check_can_live_migrate_destination', checkDest],
    ['check_can_live_migrate_source', checkSource],
  ] as const) {
    const { className, message } = await raises(fake.call(method, args));
    assert.equal(className, 'MigrationPreCheckError');
    assert.match(message, /without --live; or set nova\.live_migration to "stop_and_move"/);
  }
});

test('stop_and_move refuses what would have to be copied', async () => {
  const fake = await booted(devices());
  fake.config = { ...fake.config, liveMigration: 'stop_and_move' };
  fake.restart();

  const local = await raises(fake.call('check_can_live_migrate_source', checkSource));
  const block = await raises(fake.call('check_can_live_migrate_destination', { ...checkDest, block_migration: true }));

  assert.match(local.message, /what is at \/ is on the disk of "node1"/);
  assert.deepEqual([local.className, block.className], ['MigrationPreCheckError', 'MigrationPreCheckError']);
});

async function movers(): Promise<{ source: FakeNova; dest: FakeNova }> {
  const source = new FakeNova('node1');
  const dest = new FakeNova('node2');
  for (const fake of [source, dest]) fake.config = { ...fake.config, liveMigration: 'stop_and_move' };
  const told: Departure[] = [];
  source.departures = { tell: async (_, departure) => void told.push(departure), take: () => undefined };
  dest.departures = { tell: async () => {}, take: ({ ref }) => told.find(d => d.instance === ref) };
  await source.call('spawn', spawnArgs({ image_meta: { id: null }, block_device_info: bothVolumes }));
  const withNetwork = { instance: instance(), network_info: [], block_device_info: bothVolumes };
  await dest.call('check_can_live_migrate_destination', checkDest);
  await source.call('check_can_live_migrate_source', checkSource);
  await dest.call('cleanup_live_migration_destination_check', { dest_check_data: null });
  await dest.call('pre_live_migration', { ...withNetwork, disk_info: null, migrate_data: null });
  return { source, dest };
}
const live = { instance: instance(), dest: 'node2', block_migration: false, migrate_data: null };

test('stop_and_move: never mounted on both hosts, the times are told, nothing stays on the source', async () => {
  const { source, dest } = await movers();
  assert.deepEqual([dest.state(), dest.targets()], ['stopped', []]);

  await source.call('live_migration', live);
  assert.deepEqual([source.state(), source.targets()], ['stopped', []]);
  await source.call('post_live_migration', {
    instance: instance(),
    block_device_info: bothVolumes,
    migrate_data: null,
  });
  await source.call('post_live_migration_at_source', { instance: instance(), network_info: [] });
  const answer = await dest.call('post_live_migration_at_destination', {
    instance: instance(),
    network_info: [],
    block_migration: false,
    block_device_info: bothVolumes,
  });

  assert.deepEqual(source.leftovers, []);
  assert.deepEqual([dest.state(), dest.targets()], ['running', ['/', `/mnt/${OTHER_VOLUME}`]]);
  assert.ok(source.logged.some(({ facts }) => 'stop_ms' in facts && 'let_go_ms' in facts));
  const { down_ms } = answer as { down_ms: number };
  assert.ok(dest.logged.some(({ facts }) => 'start_ms' in facts && 'down_ms' in facts && facts.down_ms === down_ms));
  assert.equal(dest.done.at(-1), 'moved from node1');
});

test('stop_and_move that fails is up again on the source, and the rollback leaves nothing on the destination', async () => {
  const { source, dest } = await movers();
  source.failing.set('destroy /', new ShiftvolError('SV_BUSY', 'Cannot unmount: process 1 (host)'));

  const { className } = await raises(source.call('live_migration', live));
  await source.call('rollback_live_migration_at_source', { instance: instance(), migrate_data: null });
  await dest.call('rollback_live_migration_at_destination', {
    instance: instance(),
    network_info: [],
    block_device_info: bothVolumes,
    destroy_disks: true,
    migrate_data: null,
  });

  assert.equal(className, 'MigrationError');
  assert.deepEqual([source.state(), source.targets().toSorted()], ['running', ['/', `/mnt/${OTHER_VOLUME}`]]);
  assert.deepEqual(dest.leftovers, []);
});
