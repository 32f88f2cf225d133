import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { MountSpec } from '../../../src/engine/ports.ts';
import { isError } from '../../../src/errors.ts';
import type { Idmap } from '../../../src/idmap/idmap.ts';
import { LOWEST_HOST_ID } from '../../../src/idmap/idmap.ts';
import { fsId, hostId } from '../../../src/idmap/ids.ts';
import { MOUNT_ATTR } from '../../../src/kernel/mount.ts';
import { guard, hostIdOf } from '../../../src/mount/guard.ts';

const map = (host: number, disk = 0, count = 65536): Idmap =>
  (['uid', 'gid'] as const).map(kind => ({ kind, fsId: fsId(disk), hostId: hostId(host), count }));
const ranges = (start: number, count: number) => ({ uid: [{ start, count }], gid: [{ start, count }] });
const spec = (changes: Partial<MountSpec> = {}): MountSpec => ({
  path: '/run/shiftvol/x',
  idmap: map(200000),
  within: ranges(200000, 65536),
  idBase: 0,
  readOnly: false,
  role: 'volume',
  ...changes,
});

describe('guard', () => {
  test('gives each file system the options that keep the host safe', () => {
    assert.deepEqual(guard('ext4', spec()).options, [['errors', 'remount-ro']]);
    assert.deepEqual(guard('xfs', spec()).options, ['nouuid']);
    assert.deepEqual(guard('btrfs', spec()).options, []);
    assert.deepEqual(guard('xfs', spec({ readOnly: true })).options, ['nouuid', 'ro']);
  });

  test('sets nodev always and nosuid for all but root file systems', () => {
    assert.equal(guard('xfs', spec()).attributes, MOUNT_ATTR.NODEV | MOUNT_ATTR.NOSUID);
    assert.equal(guard('xfs', spec({ role: 'root' })).attributes, MOUNT_ATTR.NODEV);
    assert.equal(guard('xfs', spec({ role: 'root', readOnly: true })).attributes, MOUNT_ATTR.NODEV | MOUNT_ATTR.RDONLY);
  });

  test('writes the maps with the on-disk id first', () => {
    const { maps } = guard('ext4', spec({ idmap: map(200000, 100000), idBase: 100000 }));
    assert.deepEqual(maps, { uid: '100000 200000 65536\n', gid: '100000 200000 65536\n' });
  });

  test('refuses paths that are not absolute and normal', () => {
    for (const path of ['', 'x', './x', '/x/', '/x/../y', '/x/./y', '//x', '/', '/x\0y'])
      assert.throws(() => guard('ext4', spec({ path })), { code: 'SV_TARGET_INVALID', field: 'path' }, path);
  });

  test('lets no map through that reaches a host id below 65536 or outside of the instance', () => {
    const id = fc.integer({ min: 0, max: 4294967294 });
    const count = fc.oneof(fc.integer({ min: 1, max: 70000 }), fc.integer({ min: 1, max: 4294967295 }));
    const small = fc.integer({ min: 0, max: 400000 });
    fc.assert(
      fc.property(fc.oneof(id, small), count, fc.oneof(id, small), count, (host, mapped, start, owned) => {
        const within = ranges(start, owned);
        try {
          guard('ext4', spec({ idmap: map(host, 0, mapped), within }));
        } catch (error) {
          return isError(error, 'SV_IDMAP_INVALID');
        }
        return (
          host >= LOWEST_HOST_ID && host >= start && host + mapped <= start + owned && host + mapped - 1 <= 4294967294
        );
      }),
    );
  });

  test('refuses an id base that the map does not have', () => {
    assert.throws(() => guard('ext4', spec({ idBase: 65536 })), { code: 'SV_IDMAP_INVALID', field: 'idBase' });
    assert.throws(() => guard('ext4', spec({ idBase: -1 })), { code: 'SV_IDMAP_INVALID', field: 'idBase' });
  });
});

test('hostIdOf shifts what is mapped and knows nothing else', () => {
  const m = map(200000, 100000, 10);
  assert.equal(hostIdOf(m, 'uid', 100000), 200000);
  assert.equal(hostIdOf(m, 'gid', 100009), 200009);
  assert.equal(hostIdOf(m, 'uid', 100010), undefined);
  assert.equal(hostIdOf(m, 'uid', 99999), undefined);
});
