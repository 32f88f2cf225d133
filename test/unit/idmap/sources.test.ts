import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { liveUserNamespaces } from '../../../src/container/ranges/live.ts';
import { lxcContainers, readLxcRanges } from '../../../src/container/ranges/lxc.ts';
import { readSubidPool } from '../../../src/container/ranges/subid-files.ts';

const root = mkdtempSync(join(tmpdir(), 'shiftvol-sources-'));
after(() => rmSync(root, { recursive: true }));

function file(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

function processOf(pid: string, userns: number, uidMap: string, gidMap: string, comm = 'init'): void {
  file(`proc/${pid}/uid_map`, uidMap);
  file(`proc/${pid}/gid_map`, gidMap);
  file(`proc/${pid}/comm`, `${comm}\n`);
  mkdirSync(join(root, 'proc', pid, 'ns'));
  symlinkSync(`user:[${userns}]`, join(root, 'proc', pid, 'ns/user'));
}

test('each user namespace is told once, ours and those that borrow the host’s ids not at all', async () => {
  const all = '         0          0 4294967295\n';
  processOf('self', 4026531837, all, all);
  processOf('1', 4026531837, all, all);
  processOf('10', 4026532001, '         0     200000      65536\n', '         0     300000      65536\n');
  processOf('11', 4026532001, '         0     200000      65536\n', '         0     300000      65536\n');
  processOf('12', 4026532002, '', '');
  processOf('13', 4026532003, all, all);
  processOf(
    '14',
    4026532004,
    '0 400000 1000\n1000 1000 1\n1001 401001 5\n  2000 4294967295 5\n',
    '0 400000 10\n',
    'app',
  );
  mkdirSync(join(root, 'proc/15'));
  file('proc/uptime', '1 1');

  assert.deepEqual(await liveUserNamespaces({ proc: join(root, 'proc') }).usedRanges(), [
    { kind: 'uid', start: 200000, count: 65536, owner: 'user:[4026532001] (pid 10, init)' },
    { kind: 'gid', start: 300000, count: 65536, owner: 'user:[4026532001] (pid 10, init)' },
    { kind: 'uid', start: 400000, count: 1000, owner: 'user:[4026532004] (pid 14, app)' },
    { kind: 'uid', start: 401001, count: 5, owner: 'user:[4026532004] (pid 14, app)' },
    { kind: 'gid', start: 400000, count: 10, owner: 'user:[4026532004] (pid 14, app)' },
  ]);
});

test('a cancelled look round ends', async () => {
  await assert.rejects(liveUserNamespaces().usedRanges(AbortSignal.abort()), { name: 'AbortError' });
});

test('plain LXC’s containers are known by their configuration, and what is not understood is told', async () => {
  file(
    'lxc/web/config',
    '# a web server\nlxc.include = /usr/share/lxc/config/common.conf\nlxc.idmap = u 0 500000 65536\n  lxc.idmap=g 0 600000 65536\nlxc.idmap =\nlxc.uts.name = web\n',
  );
  file(
    'lxc/db/config',
    'lxc.include = /etc/site.conf\nlxc.idmap = u 0 zero 65536\nlxc.id_map = b 0 700000 10\nlxc.idmap = u 0 4294967290 100\n',
  );
  file('lxc/rootfs-only/rootfs/etc/passwd', '');
  file('lxc/lxc-monitord.log', '');

  const { used, notices } = await readLxcRanges({ path: join(root, 'lxc') });

  assert.deepEqual(
    used.toSorted((a, b) => a.start - b.start),
    [
      { kind: 'uid', start: 500000, count: 65536, owner: 'lxc:web' },
      { kind: 'gid', start: 600000, count: 65536, owner: 'lxc:web' },
      { kind: 'uid', start: 700000, count: 10, owner: 'lxc:db' },
      { kind: 'gid', start: 700000, count: 10, owner: 'lxc:db' },
    ],
  );
  assert.equal(notices.length, 3);
  assert.match(notices[0] ?? '', /db\/config line 1: "\/etc\/site.conf" is not followed/);
  assert.match(notices[1] ?? '', /line 2: .*"zero"/);
  assert.match(notices[2] ?? '', /line 4: .*4294967389/);
});

test('a host without LXC has no LXC containers', async () => {
  assert.deepEqual(await lxcContainers({ path: join(root, 'none') }).usedRanges(), []);
});

test('the pool is what subuid and subgid give to the owner by name and by number', async () => {
  file('etc/passwd', 'root:x:0:0::/root:/bin/sh\nshiftvol:x:997:997::/:/bin/false\n');
  file('etc/subuid', 'shiftvol:1000000:65536\n997:1065536:65536\nroot:1000000:10\nbad line\n');
  file('etc/subgid', 'shiftvol:2000000:65536\nshiftvol:2000000:65536\n');
  file('etc/nsswitch.conf', 'passwd: files\nsubid: sss\n');

  const pool = await readSubidPool('shiftvol', { etc: join(root, 'etc') });

  assert.deepEqual(pool.uid, [{ start: 1000000, count: 131072 }]);
  assert.deepEqual(pool.gid, [{ start: 2000000, count: 65536 }]);
  assert.equal(pool.problems.length, 2);
  assert.deepEqual(pool.overlaps, [`${join(root, 'etc/subuid')}: root may use 1000000-1000009 too`]);
});

test('a host without subuid files gives no pool', async () => {
  const pool = await readSubidPool('shiftvol', { etc: join(root, 'none') });
  assert.deepEqual(pool, { uid: [], gid: [], problems: [], overlaps: [] });
});
