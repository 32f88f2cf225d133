/** The real kernel has the last word on which maps there are, and on who uses which ids. Root. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, closeSync, openSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { liveUserNamespaces } from '../../../src/container/ranges/live.ts';
import { checkIdmap } from '../../../src/idmap/check.ts';
import { shownAs } from '../../../src/idmap/compose.ts';
import { type Idmap, OVERFLOW_ID } from '../../../src/idmap/idmap.ts';
import { uidMapText } from '../../../src/idmap/kernel-text.ts';
import { parseProcMaps } from '../../../src/idmap/parse.ts';
import { isErrno } from '../../../src/kernel/errno.ts';
import type { UsernsFd } from '../../../src/kernel/fd.ts';
import { fsconfigCreate, fsmount, fsopen, mountSetIdmap } from '../../../src/kernel/mount.ts';
import { createUserNamespace } from '../../../src/kernel/userns.ts';
import { anyMap, both, extent, soundMap } from '../../unit/idmap/arbitraries.ts';

/** A process in a user namespace of its own, which has no map yet. */
class Namespace implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly pid: number;

  private constructor(child: ChildProcess, pid: number) {
    this.#child = child;
    this.pid = pid;
  }

  static async open(): Promise<Namespace> {
    const child = spawn('unshare', ['--user', 'sleep', '60'], { stdio: 'ignore' });
    await once(child, 'spawn');
    assert.ok(child.pid !== undefined);
    const own = readlinkSync('/proc/self/ns/user');
    for (let i = 0; readlinkSync(`/proc/${child.pid}/ns/user`) === own; i++) {
      assert.ok(i < 5000, 'unshare did not make a namespace');
      await sleep(1);
    }
    return new Namespace(child, child.pid);
  }

  /** Whether the kernel took both halves. */
  write(map: Idmap): boolean {
    try {
      for (const kind of ['uid', 'gid'] as const) writeFileSync(`/proc/${this.pid}/${kind}_map`, uidMapText(map, kind));
      return true;
    } catch (error) {
      assert.match(String(error), /EINVAL/);
      return false;
    }
  }

  read(): Idmap {
    const text = (kind: string) => readFileSync(`/proc/${this.pid}/${kind}_map`, 'utf8');
    return parseProcMaps(text('uid'), text('gid'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}

function kernelTakes(map: Idmap): boolean {
  try {
    createUserNamespace({ uid: uidMapText(map, 'uid'), gid: uidMapText(map, 'gid') })[Symbol.dispose]();
    return true;
  } catch (error) {
    assert.ok(isErrno(error, 'EINVAL'), String(error));
    return false;
  }
}

const order = (map: Idmap) => map.toSorted((a, b) => (a.kind < b.kind ? 1 : a.kind > b.kind ? -1 : a.fsId - b.fsId));

test('the kernel takes every map that is accepted, and says the same of it', { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(soundMap(), async map => {
      assert.deepEqual(
        checkIdmap(map).filter(p => p.severity === 'error'),
        [],
      );
      await using namespace = await Namespace.open();
      assert.ok(namespace.write(map));
      assert.deepEqual(order(namespace.read()), order(map));
    }),
    { numRuns: 100 },
  );
});

test('the kernel takes a map that has both kinds exactly where its sides are accepted', () => {
  fc.assert(
    fc.property(anyMap, any => {
      const map = [...any, extent('uid', 3000000000, 3000000000, 1), extent('gid', 3000000000, 3000000000, 1)];
      const accepted = checkIdmap(map, { anyHostId: true }).every(p => p.severity !== 'error');
      assert.equal(kernelTakes(map), accepted);
    }),
    { numRuns: 3000 },
  );
});

test('the kernel takes 340 extents and 4,095 bytes, not one more', { timeout: 60_000 }, async () => {
  const extents = (n: number, from: number) =>
    (['uid', 'gid'] as const).flatMap(kind => Array.from({ length: n }, (_, i) => extent(kind, i, from + 2 * i, 1)));
  for (const [map, taken] of [
    [extents(340, 70000), true],
    [extents(341, 70000), false],
  ] as const) {
    await using namespace = await Namespace.open();
    assert.equal(namespace.write(map), taken);
    assert.equal(checkIdmap(map).length === 0, taken);
  }
});

test('a live namespace’s ids are known while it lives, and free when it is gone', { timeout: 60_000 }, async () => {
  const source = liveUserNamespaces();
  const mine = async () => (await source.usedRanges()).filter(r => r.start === 3100000000 || r.start === 3200000000);
  {
    await using namespace = await Namespace.open();
    assert.ok(namespace.write([extent('uid', 0, 3100000000, 65536), extent('gid', 0, 3200000000, 1000)]));
    const owner = `${readlinkSync(`/proc/${namespace.pid}/ns/user`)} (pid ${namespace.pid}, sleep)`;

    assert.deepEqual(await mine(), [
      { kind: 'uid', start: 3100000000, count: 65536, owner },
      { kind: 'gid', start: 3200000000, count: 1000, owner },
    ]);
  }
  assert.deepEqual(await mine(), []);
});

test('a mount shows on-disk ids as host ids, not the other way round', () => {
  const map = both(7, 200009, 3);
  using mount = tmpfs();
  const at = (name: string) => `/proc/self/fd/${mount.fd}/${name}`;
  for (const owner of [0, 7, 9, 10, 200009]) {
    writeFileSync(at(`${owner}`), '');
    chownSync(at(`${owner}`), owner, owner);
  }
  using userns = createUserNamespace({ uid: uidMapText(map, 'uid'), gid: uidMapText(map, 'gid') });

  mountSetIdmap(mount.fd, userns.fd);

  for (const owner of [0, 7, 9, 10, 200009]) {
    const { uid, gid } = statSync(at(`${owner}`));
    assert.equal(uid, shownAs(map, 'uid', owner) ?? OVERFLOW_ID);
    assert.equal(gid, shownAs(map, 'gid', owner) ?? OVERFLOW_ID);
  }
  assert.equal(statSync(at('9')).uid, 200011);
});

test('the kernel mounts with half a map not at all, as the check says', { timeout: 60_000 }, async () => {
  const half = [extent('uid', 0, 200000, 10)];
  await using namespace = await Namespace.open();
  writeFileSync(`/proc/${namespace.pid}/uid_map`, uidMapText(half, 'uid'));
  using mount = tmpfs();
  const fd = openSync(`/proc/${namespace.pid}/ns/user`, 'r');
  try {
    assert.throws(
      () => mountSetIdmap(mount.fd, fd as UsernsFd),
      error => isErrno(error, 'EINVAL'),
    );
  } finally {
    closeSync(fd);
  }
});

function tmpfs() {
  using context = fsopen('tmpfs');
  fsconfigCreate(context.fd, 'tmpfs');
  return fsmount(context.fd, 0);
}
