import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  fsconfigCreate,
  fsmount,
  fsopen,
  MOUNT_ATTR,
  mountSetIdmap,
  moveMount,
  openTreeClone,
  umount2,
  umount2Async,
} from '../../../src/kernel/mount.ts';
import { mountNamespaceIds } from '../../../src/kernel/namespaces.ts';
import { listmount, statmount } from '../../../src/kernel/statmount.ts';
import { fstatx, statx } from '../../../src/kernel/statx.ts';
import { createUserNamespace } from '../../../src/kernel/userns.ts';

test('a detached mount is mapped, placed, found by its id, and taken away', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-tmpfs-'));
  mkdirSync(join(dir, 'm'));
  const point = join(dir, 'm');
  try {
    {
      using context = fsopen('tmpfs');
      fsconfigCreate(context.fd, 'tmpfs');
      using mount = fsmount(context.fd, MOUNT_ATTR.NODEV | MOUNT_ATTR.NOSUID);
      using namespace = createUserNamespace({ uid: '0 200000 65536\n', gid: '0 300000 65536\n' });
      const { mountId } = fstatx(mount.fd);
      assert.throws(() => statmount(mountId), { errnoName: 'ENOENT' });
      mountSetIdmap(mount.fd, namespace.fd);
      assert.throws(() => mountSetIdmap(mount.fd, namespace.fd), { errnoName: 'EPERM' });
      moveMount(mount.fd, point);

      assert.equal(statx(point).mountId, mountId);
      const status = statmount(mountId);
      assert.deepEqual([status.point, status.root, status.fsType], [point, '/', 'tmpfs']);
      assert.deepEqual([status.uidMap, status.gidMap], [['0 200000 65536'], ['0 300000 65536']]);
      assert.equal(status.attributes, BigInt(MOUNT_ATTR.IDMAP | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOSUID));
      assert.ok(listmount().includes(mountId));
      assert.ok(listmount({ below: status.parentId }).includes(mountId));
      assert.throws(() => umount2(point, { lazy: false }), { errnoName: 'EBUSY' });
      using copy = openTreeClone(point);
      assert.equal(fstatx(copy.fd).uid, 200000);
    }
    await umount2Async(point, { lazy: false });
    await assert.rejects(umount2Async(point, { lazy: false }), { errnoName: 'EINVAL', object: point });
    assert.throws(() => umount2(join(dir, 'none'), { lazy: true }), { errnoName: 'ENOENT' });
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('every mount namespace is found, ours too', () => {
  const ids = mountNamespaceIds();
  assert.ok(ids.length >= 1);
  assert.equal(new Set(ids).size, ids.length);
  assert.ok(ids.some(namespace => listmount({ namespace }).length === listmount().length));
});
