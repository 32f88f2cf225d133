import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Attachment, InstanceRef } from '../../../src/engine/model.ts';
import { isError } from '../../../src/errors.ts';
import { umount2 } from '../../../src/kernel/mount.ts';
import { digestOnDisk } from '../../e2e/digest.ts';
import { assertHostUnchanged, type HostState, hostState } from '../../rig/host.ts';
import { FORCED, type MachineWorld, makeMachineWorld, never, restart, uuidFor } from './machine-world.ts';

let w: MachineWorld;
let hostBefore: HostState;
before(async () => {
  w = await makeMachineWorld();
  hostBefore = hostState(w.world.dir);
});
after(async () => {
  // Whatever was left behind is told, and taken away nevertheless.
  await using _ = w;
  await assertHostUnchanged({ ...hostBefore, files: hostState(w.world.dir).files });
});

const refOf = (name: string): InstanceRef => ({ ref: uuidFor(name) });
const rootOf = (name: string): Attachment => {
  const root = w.engine.list().find(a => a.plan.instance === uuidFor(name) && a.plan.role === 'root');
  assert.ok(root);
  return root;
};
/** Its root file system as it stands on disk; the container is stopped and what it had mounted is gone for the moment. */
const digest = async (name: string) => {
  const { plan } = rootOf(name);
  umount2(plan.mountPath, { lazy: false });
  const { digest: found } = await digestOnDisk(plan.image.path, 'ext4');
  await w.engine.recover({ dryRun: false, signal: never });
  return found;
};

test('nothing on the disk changes owner, mode or time by starts, stops, a restart of LXD or of the host', async t => {
  const name = 'instance-00000011';
  const instance = await w.create(name);
  await w.spawn(instance.key);
  const fresh = await digest(name);
  // What the container itself does to its files at its first start, it has done then.
  await w.machines.start(refOf(name), never);
  await w.machines.stop(refOf(name), FORCED, never);
  assert.equal(await digest(name), fresh, 'the first start');

  await t.test('stop, start, restart', async () => {
    await w.machines.start(refOf(name), never);
    await restart(w, refOf(name), FORCED);
    await restart(w, refOf(name), { force: false, timeoutMs: 5000 });
    await w.machines.stop(refOf(name), FORCED, never);
    assert.equal(await digest(name), fresh);
  });

  await t.test('LXD ends and comes back while it runs', async () => {
    await w.machines.start(refOf(name), never);
    const pid = await w.world.lxd.initPid(name);
    await w.world.lxd.stopDaemon();
    await w.world.lxd.startDaemon();
    assert.equal(await w.machines.power(refOf(name), never), 'running');
    assert.equal(await w.world.lxd.initPid(name), pid);
    await w.machines.stop(refOf(name), FORCED, never);
    assert.equal(await digest(name), fresh);
  });

  await t.test('the host comes up again: LXD first and on its own, then the agent, then the container', async () => {
    // A power cut leaves LXD with the note that it ran; mounts and processes are gone.
    await w.world.lxd.stopDaemon();
    umount2(rootOf(name).plan.mountPath, { lazy: false });
    await w.world.lxd.startDaemon();
    assert.equal(await w.machines.power(refOf(name), never), 'stopped');
    await assert.rejects(w.machines.start(refOf(name), never), error => isError(error, 'SV_ATTACHMENT_NOT_FOUND'));

    await w.restartEngine();
    const { attachments } = await w.engine.recover({ dryRun: false, signal: never });
    assert.deepEqual(
      attachments.map(a => a.did),
      ['mounted again'],
    );
    await w.machines.start(refOf(name), never);
    assert.equal(await w.machines.power(refOf(name), never), 'running');
    await w.machines.stop(refOf(name), FORCED, never);
    assert.equal(await digest(name), fresh);
  });

  await w.unmake(instance.key);
});

test('what the container writes is there after a restart, with its own owners on the disk', async () => {
  const name = 'instance-00000012';
  const { key } = await w.boot(name);
  await w.world.lxd.sh(name, 'echo mine > /srv/data; chown 33:33 /srv/data');
  await w.world.lxd.sh(name, 'echo theirs > /home/app/data', { uid: 1000 });
  await restart(w, refOf(name), FORCED);
  assert.equal(
    await w.world.lxd.sh(name, "cd /; stat -c '%n %u:%g' srv/data home/app/data"),
    'srv/data 33:33\nhome/app/data 1000:1000',
  );

  await w.machines.stop(refOf(name), FORCED, never);
  const { plan } = rootOf(name);
  umount2(plan.mountPath, { lazy: false });
  const { lines } = await digestOnDisk(plan.image.path, 'ext4');
  assert.ok(lines.some(line => line.startsWith('./srv/data f 644 33:33')));
  assert.ok(lines.some(line => line.startsWith('./home/app/data f 644 1000:1000')));
  await w.engine.recover({ dryRun: false, signal: never });
  await w.unmake(key);
});

test('a container that reboots itself comes back on its root file system', async () => {
  const name = 'instance-00000013';
  const { key } = await w.boot(name);
  const pid = await w.world.lxd.initPid(name);
  await w.world.lxd.exec(name, ['reboot', '-f']);
  for (let tries = 0; tries < 100; tries++) {
    const now = await w.world.lxd.initPid(name);
    if (now !== 0 && now !== pid) break;
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  assert.equal(await w.world.lxd.sh(name, 'cat /proc/self/mountinfo | grep -c " / / .*idmapped"'), '1');
  await w.unmake(key);
});

test('a root file system can be a volume: it is used as it is, and is still there when the instance is gone', async () => {
  const name = 'instance-00000014';
  const volume = join(w.world.dir, 'volume-1');
  makeVolume(volume, 100_000);
  const source = { kind: 'file', path: volume, idBase: 100_000 } as const;
  const { key } = await w.create(name);
  await w.spawn(key, { source });
  await w.spawn(key, { source });
  await w.machines.start(refOf(name), never);
  assert.equal(await w.world.lxd.sh(name, "stat -c '%u:%g' / /home/app | xargs"), '0:0 1000:1000');
  await w.world.lxd.sh(name, 'echo kept > /srv/data');

  const other = await w.create('instance-00000015');
  await assert.rejects(w.spawn(other.key, { source }), error => isError(error, 'SV_VOLUME_IN_USE'));
  await w.unmake(key);
  assert.ok(existsSync(volume));
  await w.spawn(other.key, { source });
  await w.machines.start(refOf('instance-00000015'), never);
  assert.equal(await w.world.lxd.sh('instance-00000015', "cat /srv/data; stat -c '%u:%g' /srv/data"), 'kept\n0:0');
  await w.unmake(other.key);
  const { lines } = await digestOnDisk(volume, 'ext4');
  assert.ok(lines.some(line => line.startsWith('./srv/data f 644 100000:100000')));
});

test('another root file system than the one that is mounted is refused', async () => {
  const name = 'instance-00000016';
  const { key } = await w.create(name);
  await w.spawn(key);
  const source = { kind: 'file', path: '/tmp/none' } as const;
  await assert.rejects(w.spawn(key, { source }), error => isError(error, 'SV_TARGET_TAKEN'));
  await w.unmake(key);
});

test('a container that was lost is made again on the root file system that is still mounted', async () => {
  const name = 'instance-00000017';
  const { key, rootPath = '' } = await w.boot(name);
  await w.world.lxd.sh(name, 'echo kept > /srv/data');
  await w.machines.stop(refOf(name), FORCED, never);
  await w.world.lxd.delete(name);
  assert.equal(readFileSync(`${rootPath}/srv/data`, 'utf8'), 'kept\n');

  await w.create(name, { rootPath });
  await w.spawn(key);
  await w.machines.start(refOf(name), never);
  assert.equal(await w.world.lxd.sh(name, 'cat /srv/data'), 'kept');
  await w.unmake(key);
});

test('a volume that is attached before the first start is there at once, and a symlink in its way is seen', async () => {
  const name = 'instance-00000018';
  const { key } = await w.create(name);
  await w.spawn(key);
  const attach = (target: string) =>
    w.engine.execute(
      {
        action: 'attach',
        instance: refOf(name),
        target,
        source: { kind: 'template', template: 'busybox' },
        readOnly: false,
      },
      never,
    );
  await assert.rejects(attach('/bin/sh/x'), error => isError(error, 'SV_TARGET_INVALID', 'SV_TARGET_TAKEN'));
  await attach('/mnt/data');
  await w.machines.start(refOf(name), never);
  assert.equal(await w.world.lxd.sh(name, "stat -c '%u:%g' /mnt/data/home/app"), '1000:1000');
  await restart(w, refOf(name), FORCED);
  assert.equal(await w.world.lxd.sh(name, "stat -c '%u:%g' /mnt/data/home/app"), '1000:1000');
  await w.unmake(key);
});

test('LXD killed in the middle of starts and stops leaves an instance that starts again, with its files', async () => {
  const name = 'instance-00000019';
  const { key } = await w.boot(name);
  await w.machines.stop(refOf(name), FORCED, never);
  for (const delayMs of [5, 40, 90]) {
    const start = w.machines.start(refOf(name), never).catch(() => undefined);
    await new Promise(resolve => setTimeout(resolve, delayMs));
    process.kill(w.world.lxd.pid, 'SIGKILL');
    await new Promise(resolve => setTimeout(resolve, 300));
    await w.world.lxd.startDaemon();
    await start;
    await w.machines.stop(refOf(name), FORCED, never);
  }
  await w.machines.start(refOf(name), never);
  assert.equal(await w.world.lxd.sh(name, "stat -c '%u:%g' /home/app"), '1000:1000');
  await w.unmake(key);
});

test('no file of an instance is seen by another user of the host, whose ids are not the container’s', async () => {
  const name = 'instance-0000001a';
  const { key, rootPath = '' } = await w.boot(name);
  const asNobody = (...argv: readonly string[]) =>
    execFileSync('setpriv', ['--reuid', '65534', '--regid', '65534', '--clear-groups', ...argv], { stdio: 'pipe' });
  assert.throws(() => asNobody('ls', join(rootPath, '..')), /Permission denied/);
  await w.unmake(key);
});

/** A busybox root file system with ids from `base` on, as another cloud made it. */
function makeVolume(path: string, base: number): void {
  writeFileSync(path, '');
  truncateSync(path, 64 * 2 ** 20);
  execFileSync('mkfs.ext4', ['-q', '-F', '-E', `root_owner=${base}:${base}`, '-d', join(w.world.dir, 'busybox'), path]);
  const point = join(w.world.dir, 'look');
  execFileSync('sh', [
    '-ec',
    `mkdir "$2"; mount -o loop "$1" "$2"; cd "$2"; find . -exec sh -c 'for f; do chown -h $(($(stat -c %u "$f") + ${base} * ($(stat -c %u "$f") < ${base}))):$(($(stat -c %g "$f") + ${base} * ($(stat -c %g "$f") < ${base}))) "$f"; done' _ {} +; cd /; umount "$2"; rmdir "$2"`,
    'sh',
    path,
    point,
  ]);
}
