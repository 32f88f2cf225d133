import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountSetIdmap, moveMount, openTreeClone, umount2 } from '../../../src/kernel/mount.ts';
import { createUserNamespace } from '../../../src/kernel/userns.ts';
import { makeRootfs } from '../../rig/busybox.ts';
import { startLxd } from '../../rig/lxd.ts';
import { mountsAt } from './mapped.ts';

test('a container runs on a root file system that was mapped before it started, and its disk stays as it was', async () => {
  const dir = mkdtempSync('/tmp/shiftvol-rootfs-');
  // LXC opens the path from inside the user namespace.
  execFileSync('chmod', ['711', dir]);
  const [disk, root] = [join(dir, 'disk'), join(dir, 'root')];
  mkdirSync(disk);
  mkdirSync(root);
  await makeRootfs(disk);
  const digest = () => execFileSync('find', [disk, '-printf', '%p %U:%G %m %s %T@\n']).toString();
  const digestBefore = digest();
  const map = '0 400000 65536\n';
  {
    using tree = openTreeClone(disk);
    using userns = createUserNamespace({ uid: map, gid: map });
    mountSetIdmap(tree.fd, userns.fd);
    moveMount(tree.fd, root);
  }
  {
    await using lxd = await startLxd();
    await lxd.createOn('r1', root, { base: 400000, size: 65536 });
    await lxd.start('r1');

    assert.match(await lxd.sh('r1', 'cat /proc/self/uid_map'), /^\s*0\s+400000\s+65536$/);
    assert.equal(await lxd.sh('r1', 'stat -c %u:%g / /home/app | tr "\\n" " "'), '0:0 1000:1000');
    assert.equal(digest(), digestBefore);
    assert.equal(
      await lxd.sh('r1', 'id -u; touch /home/app/x; stat -c %u:%g /home/app/x', { uid: 1000 }),
      '1000\n1000:1000',
    );
  }
  assert.equal(execFileSync('stat', ['-c', '%u:%g', join(disk, 'home/app/x')]).toString(), '1000:1000\n');
  umount2(root, { lazy: false });
  rmSync(dir, { recursive: true });
  assert.deepEqual(mountsAt(dir), []);
});

test('what the rig made is gone afterwards, also after its daemon was killed or stopped', async () => {
  const dirs: string[] = [];
  for (const end of ['none', 'killed', 'stopped'] as const) {
    await using lxd = await startLxd();
    dirs.push(lxd.dir);
    await lxd.launch('c1');
    if (end === 'killed') process.kill(lxd.pid, 'SIGKILL');
    if (end === 'stopped') await lxd.stopDaemon();
  }

  assert.deepEqual(dirs.filter(existsSync), []);
  assert.deepEqual(mountsAt(...dirs), []);
});

test('a directory that is there already is not taken', async () => {
  const dir = mkdtempSync('/tmp/shiftvol-lxd-');

  await assert.rejects(startLxd({ dir }), { code: 'EEXIST' });

  assert.ok(existsSync(dir));
  rmSync(dir, { recursive: true });
});
