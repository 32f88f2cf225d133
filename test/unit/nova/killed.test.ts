/** The agent is killed before each thing that a method does; it starts anew, and Nova goes on as it does then. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
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

type Call = readonly [method: string, args: Record<string, unknown>];
const image = devices({ id: VOLUME });
const volumes = devices({ id: VOLUME, boot: true }, { id: OTHER_VOLUME });
const about = { instance: instance(), network_info: [] };
const withVolumes = { ...about, block_device_info: volumes };
const toNode2 = { uuid: 'm', migration_type: 'migration', source_compute: 'node1', dest_compute: 'node2' };
const spawn: Call = ['spawn', spawnArgs({ block_device_info: image })];
const bootFromVolume: Call = ['spawn', spawnArgs({ image_meta: {}, block_device_info: volumes })];
const destroy: Call = ['destroy', { ...about, destroy_disks: true }];
const leave: Call = [
  'migrate_disk_and_power_off',
  { ...withVolumes, dest: '10.0.0.8', flavor: flavor(), timeout: 60, retry_interval: 10, migration: toNode2 },
];
const arrive: Call = [
  'finish_migration',
  {
    ...withVolumes,
    migration: { ...toNode2, source_compute: 'node2', dest_compute: 'node1' },
    disk_info: JSON.stringify({ v: 1, source: 'node2', root: { kind: 'volume' } }),
    image_meta: {},
    resize_instance: false,
    power_on: true,
  },
];
const hardReboot: Call = ['reboot', { ...withVolumes, reboot_type: 'HARD' }];
const leaveLive: Call = ['live_migration', { ...about, dest: 'node2' }];
const attach: Call = [
  'attach_volume',
  { instance: instance(), connection_info: connectionInfo(OTHER_VOLUME), mountpoint: '/dev/sdc', encryption: {} },
];
const detach: Call = [
  'detach_volume',
  { instance: instance(), connection_info: connectionInfo(OTHER_VOLUME), mountpoint: '/dev/sdc' },
];

/** Where something is mounted in the end, for one that runs; nothing, for one that is gone. */
const gone: readonly string[] = [];
const runs = ['/', `/mnt/${OTHER_VOLUME}`];

type Case = {
  readonly before: readonly Call[];
  readonly killed: Call;
  readonly next: readonly Call[];
  readonly end: readonly string[];
};
const CASES: Readonly<Record<string, Case>> = {
  'spawn, then Nova’s destroy': { before: [], killed: spawn, next: [destroy], end: gone },
  'spawn, then the same again': {
    before: [],
    killed: spawn,
    next: [spawn],
    end: ['/', `/mnt/${VOLUME}`],
  },
  'boot from a volume, then Nova’s destroy': { before: [], killed: bootFromVolume, next: [destroy], end: gone },
  'destroy, then again': { before: [spawn], killed: destroy, next: [destroy], end: gone },
  'hard reboot, then again': { before: [bootFromVolume], killed: hardReboot, next: [hardReboot], end: runs },
  'attach, then again': { before: [bootFromVolume, detach], killed: attach, next: [attach], end: runs },
  'a move away, then the hard reboot of one that is in error': {
    before: [bootFromVolume],
    killed: leave,
    next: [hardReboot],
    end: runs,
  },
  'a move away, then again, and confirmed': {
    before: [bootFromVolume],
    killed: leave,
    next: [leave, ['confirm_migration', { ...about, migration: toNode2 }]],
    end: gone,
  },
  'confirming, then again': {
    before: [bootFromVolume, leave],
    killed: ['confirm_migration', { ...about, migration: toNode2 }],
    next: [['confirm_migration', { ...about, migration: toNode2 }]],
    end: gone,
  },
  'taking back, then again': {
    before: [bootFromVolume, leave],
    killed: ['finish_revert_migration', { ...withVolumes, migration: toNode2, power_on: true }],
    next: [['finish_revert_migration', { ...withVolumes, migration: toNode2, power_on: true }]],
    end: runs,
  },
  'an arrival, then Nova’s destroy': { before: [], killed: arrive, next: [destroy], end: gone },
  'an arrival, then a hard reboot': { before: [], killed: arrive, next: [arrive, hardReboot], end: runs },
  'a live move away, then a hard reboot': {
    before: [bootFromVolume],
    killed: leaveLive,
    next: [hardReboot],
    end: runs,
  },
  'the end of a live move at its source, then again': {
    before: [bootFromVolume, leaveLive],
    killed: ['post_live_migration', about],
    next: [['post_live_migration', about]],
    end: gone,
  },
  'the end of a live move at its destination, then a hard reboot': {
    before: [['pre_live_migration', withVolumes]],
    killed: ['post_live_migration_at_destination', withVolumes],
    next: [hardReboot],
    end: runs,
  },
  'a live move that is taken back at its destination, then again': {
    before: [['pre_live_migration', withVolumes]],
    killed: ['rollback_live_migration_at_destination', { ...about, destroy_disks: true }],
    next: [['rollback_live_migration_at_destination', { ...about, destroy_disks: true }]],
    end: gone,
  },
};

/** No method does as many. */
const MOST_THINGS = 30;

describe('an agent that is killed in the middle of', () => {
  for (const [what, { before, killed, next, end }] of Object.entries(CASES))
    test(what, async () => {
      let n = 0;
      for (; n < MOST_THINGS; n++) {
        const fake = new FakeNova();
        fake.config = { ...fake.config, liveMigration: 'stop_and_move' };
        fake.templates.set(IMAGE, GIB);
        for (const [method, args] of before) await fake.call(method, args);

        fake.killedAt = n;
        const [method, args] = killed;
        const wasKilled = await fake.call(method, args).then(
          () => false,
          () => true,
        );
        fake.restart();
        if (!wasKilled) break;
        for (const call of next) await fake.call(...call);

        const at = `killed before its thing ${n}`;
        assert.deepEqual(fake.targets().toSorted(), end, at);
        assert.equal(fake.state(), end === gone ? undefined : 'running', at);
        assert.equal(fake.notes.get(UUID)?.leaving, undefined, at);
        if (end === gone) assert.deepEqual(fake.leftovers, [], at);
      }
      assert.ok(n > 0 && n < MOST_THINGS, `${n} things`);
    });

  test('a detach: the next one says that nothing is attached, or does it', async () => {
    for (const n of [0, 1]) {
      const fake = new FakeNova();
      fake.templates.set(IMAGE, GIB);
      await fake.call(...bootFromVolume);
      fake.killedAt = n;
      await fake.call(...detach).catch(() => undefined);
      fake.restart();
      if (fake.targets().length === 1) assert.equal((await raises(fake.call(...detach))).className, 'DiskNotFound');
      else await fake.call(...detach);
      assert.deepEqual(fake.targets(), ['/']);
    }
  });
});
