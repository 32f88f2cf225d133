import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Host } from '../../src/cli/assemble.ts';
import type { AttachCommand, Attachment, Outcome, Source } from '../../src/engine/model.ts';
import { explain, isError } from '../../src/errors.ts';
import { umount2 } from '../../src/kernel/mount.ts';
import { mountPrivately, waitUnused } from '../../src/storage/private-mount.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { digestOnDisk, inMount } from './digest.ts';
import { makeWorld, type World } from './world.ts';

const never = new AbortController().signal;
let world: World;
let host: Host;
let clean: HostState;

before(async () => {
  world = await makeWorld();
  for (const fsType of ['ext4', 'xfs', 'btrfs'] as const)
    await world.addTemplate(`tree-${fsType}`, { fsType, from: richTree(fsType) });
  await world.addTemplate('high', { idBase: 100_000, from: richTree('high') });
  await world.lxd.launch('c1');
  host = await world.engine();
  clean = hostState(world.dir);
});
after(async () => {
  await host?.[Symbol.asyncDispose]();
  await world?.[Symbol.asyncDispose]();
});

/** Owners, modes, ACLs, attributes, capabilities: whatever a map might get wrong. */
function richTree(name: string): string {
  const dir = join(world.dir, `rich-${name}`);
  mkdirSync(dir);
  const script = `
    cd "$1"; umask 022
    mkdir plain setgid sticky acl; echo data > plain/file; ln -s file plain/link; mkfifo plain/fifo
    install -o 0 -g 0 -m 4755 /usr/bin/id plain/suid
    chown 1000:1001 plain/file plain/link -h; chown 0:1001 setgid; chmod 2775 setgid; chmod 1777 sticky
    chown 33:33 acl; setfacl -m u:1000:rwx,g:1001:r-x,d:u:1000:rwx acl; setfattr -n user.note -v hello plain/file
    cp /bin/true plain/cap; setcap cap_net_raw+ep plain/cap`;
  execFileSync('sh', ['-ec', script, 'sh', dir]);
  return dir;
}

const attach = (
  ref: string,
  target: string,
  source: Source | string,
  more: Partial<AttachCommand> = {},
): Promise<Outcome> =>
  host.engine.execute(
    {
      action: 'attach',
      instance: { ref },
      target,
      source: typeof source === 'string' ? { kind: 'template', template: source } : source,
      readOnly: false,
      ...more,
    },
    never,
  );
const detach = (ref: string, target: string, lazy = false) =>
  host.engine.execute({ action: 'detach', instance: { ref }, target, lazy }, never);
const destroy = (ref: string) => host.engine.execute({ action: 'destroy', instance: { ref }, lazy: false }, never);
const only = ({ attachments: [attachment] }: Outcome): Attachment => {
  assert.ok(attachment);
  return attachment;
};

const inside = (name: string, script: string) => world.lxd.sh(name, script);

for (const template of ['tree-ext4', 'tree-xfs', 'tree-btrfs', 'high']) {
  describe(`a snapshot of ${template}`, () => {
    test('shows owners and modes inside as the template has them, and 20 cycles of attach and detach change nothing on disk', async () => {
      const { plan } = only(await attach('c1', '/mnt/data', template));
      const listed = await inside(
        'c1',
        "cd /mnt/data && find . -path ./lost+found -prune -o -exec stat -c '%n %u:%g %a' {} + | sort",
      );
      await detach('c1', '/mnt/data');
      const fsType = template === 'high' ? 'ext4' : (template.slice(5) as 'ext4');
      const onDisk = await digestOnDisk(plan.image.path, fsType);
      const base = plan.idBase;
      const expected = onDisk.lines
        .filter(line => /^\.(\/\S*)? [a-z] /.test(line))
        .map(line => line.split(' '))
        .map(
          ([path, , mode, owner = '']) =>
            `${path} ${owner
              .split(':')
              .map(id => Number(id) - base)
              .join(':')} ${mode}`,
        );

      assert.deepEqual(listed.split('\n'), expected.toSorted());
      for (let i = 0; i < 20; i++) {
        await attach('c1', '/mnt/data', template);
        await detach('c1', '/mnt/data');
      }
      assert.equal((await digestOnDisk(plan.image.path, fsType)).digest, onDisk.digest);
      await destroy('c1');
      await assertHostUnchanged(clean);
    });

    test('has files made inside under the base ids on disk, and ids outside the map as 65534', async () => {
      const { plan } = only(await attach('c1', '/mnt/data', template));
      await inside('c1', 'cd /mnt/data && touch by-root && mkdir by-1000 && chown 1000:1000 by-1000');
      assert.equal((await world.lxd.exec('c1', ['touch', '/mnt/data/by-1000/own'], { uid: 1000 })).code, 0);
      assert.notEqual((await world.lxd.exec('c1', ['chown', '70000:70000', '/mnt/data/by-root'])).code, 0);
      await detach('c1', '/mnt/data');
      {
        using mount = await mountPrivately(plan.image.path, { fsType: plan.fsType ?? 'ext4', readOnly: false });
        const base = plan.idBase;
        assert.equal(
          inMount(mount.fd, ["stat -c '%u:%g' by-root by-1000/own"]).trim(),
          `${base}:${base}\n${base + 1000}:${base + 1000}`,
        );
        inMount(mount.fd, [`touch stranger; chown ${base + 70_000}:${base + 70_000} stranger`]);
      }
      await waitUnused(plan.image.path);
      await attach('c1', '/mnt/data', template);
      assert.equal(await inside('c1', "stat -c '%u:%g' /mnt/data/stranger"), '65534:65534');
      await destroy('c1');
      await assertHostUnchanged(clean);
    });
  });
}

test('a busy volume is not detached: the process is named, and nothing changes; lazy takes it away', async () => {
  await attach('c1', '/mnt/data', 'tree-ext4');
  await inside('c1', 'cd /mnt/data && (sleep 1000 >/dev/null 2>&1 & echo $! > /tmp/pid)');
  const during = hostState(world.dir);
  await assert.rejects(
    detach('c1', '/mnt/data'),
    e => isError(e, 'SV_BUSY') && /sleep/.test(explain(e)) && /\d+/.test(explain(e)),
  );
  assert.deepEqual(hostState(world.dir), during);
  assert.equal(await inside('c1', 'cat /mnt/data/plain/file'), 'data');
  assert.equal(host.engine.list()[0]?.status.state, 'attached');

  const taken = only(await detach('c1', '/mnt/data', true));
  assert.equal(taken.status.state, 'detaching');
  assert.equal((await world.lxd.exec('c1', ['ls', '/mnt/data/plain'])).code, 1);
  await inside('c1', 'kill $(cat /tmp/pid)');
  for (let i = 0; i < 50 && host.engine.list()[0]?.status.state !== 'detached'; i++)
    await host.engine.recover({ dryRun: false, signal: never });
  await destroy('c1');
  await assertHostUnchanged(clean);
});

test('a raw file is attached as it is, its data stays, and read-only means it', async () => {
  const path = join(world.dir, 'vol.raw');
  execFileSync('sh', ['-ec', 'truncate -s 64M "$1" && mke2fs -q -t ext4 -E root_owner=0:0 "$1"', 'sh', path]);
  await attach('c1', '/mnt/vol', { kind: 'file', path });
  await inside('c1', 'echo kept > /mnt/vol/file');
  await detach('c1', '/mnt/vol');
  assert.deepEqual(host.engine.list(), []);

  await attach('c1', '/mnt/vol', { kind: 'file', path }, { readOnly: true });
  assert.equal(await inside('c1', 'cat /mnt/vol/file'), 'kept');
  assert.notEqual((await world.lxd.exec('c1', ['touch', '/mnt/vol/no'])).code, 0);
  assert.notEqual((await world.lxd.exec('c1', ['mount', '-o', 'remount,bind,rw', '/mnt/vol'])).code, 0);
  await destroy('c1');
  execFileSync('rm', [path]);
  await assertHostUnchanged(clean);
});

test('a volume that is attached already is refused to another instance', async () => {
  const path = join(world.dir, 'once.raw');
  execFileSync('sh', ['-ec', 'truncate -s 64M "$1" && mke2fs -q -t ext4 "$1"', 'sh', path]);
  await world.lxd.launch('c2');
  await attach('c1', '/mnt/vol', { kind: 'file', path });
  await assert.rejects(attach('c2', '/mnt/vol', { kind: 'file', path }), e => isError(e, 'SV_VOLUME_IN_USE'));
  await world.lxd.stop('c2');
  await world.lxd.delete('c2');
  await destroy('c1');
  execFileSync('rm', [path]);
  await assertHostUnchanged(clean);
});

test('detach and destroy leave alone what they did not make', async () => {
  const { plan } = only(await attach('c1', '/mnt/data', 'tree-ext4'));
  const foreign = join(plan.mountPath, 'plain');
  execFileSync('mount', ['-t', 'tmpfs', 'foreign', foreign]);
  writeFileSync(join(foreign, 'precious'), 'x');
  await assert.rejects(detach('c1', '/mnt/data'), e => isError(e, 'SV_BUSY'));
  await assert.rejects(destroy('c1'), e => isError(e, 'SV_BUSY'));
  assert.deepEqual(readdirSync(foreign), ['precious']);
  assert.equal(await inside('c1', 'cat /mnt/data/setgid/none 2>/dev/null; ls /mnt/data | grep -c setgid'), '1');
  umount2(foreign, { lazy: false });
  await destroy('c1');
  await assertHostUnchanged(clean);
});

test('nobody else on the host reaches a volume, not by a prepared link nor a setuid file', async () => {
  const { plan } = only(await attach('c1', '/mnt/data', 'tree-ext4'));
  const root = only(
    await host.engine.execute({ action: 'spawn', instance: { ref: 's1' }, template: 'tree-ext4' }, never),
  ).plan;
  const link = join(mkdtempSync('/tmp/shiftvol-link-'), 'link');
  chmodSync(join(link, '..'), 0o755);
  symlinkSync(plan.mountPath, link);
  // The world's own directory is private; what counts is that the way below it is too.
  chmodSync(world.dir, 0o711);
  const as1000 = (...argv: readonly string[]) =>
    spawnSync(argv[0] ?? '', argv.slice(1), { uid: 1000, gid: 1000, cwd: '/' });
  for (const path of [link, plan.mountPath, join(plan.mountPath, 'plain', 'file'), join(link, 'plain', 'suid')])
    assert.notEqual(as1000('cat', path).status, 0, path);
  for (const path of [join(plan.mountPath, '..'), join(root.mountPath, '..')])
    assert.notEqual(as1000('ls', path).status, 0, path);
  // A root file system may be entered by who knows its secret name; its setuid root is the container's root, not the host's.
  const base = root.idmap.find(e => e.kind === 'uid')?.hostId;
  assert.equal(
    as1000(join(root.mountPath, 'plain', 'suid'), '-u')
      .stdout.toString()
      .trim(),
    `${base}`,
  );
  chmodSync(world.dir, 0o700);
  execFileSync('rm', ['-r', join(link, '..')]);
  await destroy('c1');
  await destroy('s1');
  await assertHostUnchanged(clean);
});

test('a stopped instance gets its volume at its next start', async () => {
  await world.lxd.stop('c1');
  await attach('c1', '/mnt/data', 'tree-ext4');
  await world.lxd.start('c1');
  assert.equal(await inside('c1', 'cat /mnt/data/plain/file'), 'data');
  await destroy('c1');
  await assertHostUnchanged(clean);
});

test('what a reboot took is mounted again at the same path, and the container finds its data when it starts', async () => {
  const { plan } = only(await attach('c1', '/mnt/data', 'tree-ext4'));
  await inside('c1', 'echo before > /mnt/data/note');
  await world.lxd.stop('c1');
  umount2(plan.mountPath, { lazy: false });
  rmdirSync(plan.mountPath);

  const { attachments } = await host.engine.recover({ dryRun: false, signal: never });

  assert.deepEqual(
    attachments.map(({ attachment, did }) => ({ attachment, did })),
    [{ attachment: plan.id, did: 'mounted again' }],
  );
  await world.lxd.start('c1');
  assert.equal(await inside('c1', 'cat /mnt/data/note; stat -c %u:%g /mnt/data/plain/file'), 'before\n1000:1001');
  await destroy('c1');
  await assertHostUnchanged(clean);
});

test('a lazy destroy of a volume that is held removes its snapshot when the holder has gone, by recover', async () => {
  const { plan } = only(await attach('c1', '/mnt/data', 'tree-xfs'));
  await inside('c1', 'cd /mnt/data && (sleep 1000 >/dev/null 2>&1 & echo $! > /tmp/pid)');

  const left = await host.engine.execute({ action: 'destroy', instance: { ref: 'c1' }, lazy: true }, never);

  assert.equal(left.attachments[0]?.status.state, 'detaching');
  assert.ok(existsSync(plan.image.path), 'an image is never removed under who uses it');
  assert.equal((await host.engine.recover({ dryRun: false, signal: never })).attachments[0]?.did, 'left');
  await inside('c1', 'kill $(cat /tmp/pid)');
  for (let i = 0; i < 50 && host.engine.list().length > 0; i++)
    await host.engine.recover({ dryRun: false, signal: never });
  assert.ok(!existsSync(plan.image.path));
  assert.deepEqual(host.engine.list(), []);
  await assertHostUnchanged(clean);
});
