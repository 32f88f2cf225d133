/** Cinder's volumes in servers: mounted with the right owners, let go of, and nothing is chowned. */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import type { Server } from './servers.ts';
import { step } from './steps.ts';
import { waited } from './waited.ts';
import type { OpenStack } from './world.ts';

const HOLDER = 'cd /mnt/data && (sleep 600 > /dev/null 2>&1 & echo $! > /tmp/holder)';

export function volumeSteps(stack: () => OpenStack): void {
  let server: Server;
  let first: string;
  let second: string;

  step('add volume mounts the file system of a Cinder volume shifted into the running container', async () => {
    const { servers, images } = stack();
    first = await stack().formattedVolume('first');
    second = await stack().formattedVolume('second');
    server = await servers.boot({
      name: 'volumes',
      image: images.raw,
      host: 'node1',
      metadata: { [`shiftvol:path:${first}`]: '/mnt/data' },
    });

    await servers.attach(server.id, first);

    assert.equal(await owners('/mnt/data/owned /mnt/data/rooted'), '1000:1000 0:0');
    await stack().inside(server, 'echo inside > /mnt/data/written; chown 33:33 /mnt/data/written');
    assert.deepEqual(await stack().novaVolumes(server), [first]);
  });

  step('a volume without a path of its own goes to /mnt/<volume id>', async () => {
    await stack().servers.attach(server.id, second);

    assert.equal(await owners(`/mnt/${second}/owned`), '1000:1000');
  });

  step('volumes are there again after reboot, stop and start', async () => {
    const { servers } = stack();

    await servers.change(server.id, { reboot: { type: 'HARD' } }, 'ACTIVE');
    assert.equal(await owners(`/mnt/data/written /mnt/${second}/owned`), '33:33 1000:1000');
    await servers.change(server.id, { 'os-stop': null }, 'SHUTOFF');
    await servers.change(server.id, { 'os-start': null }, 'ACTIVE');

    assert.equal(await owners(`/mnt/data/written /mnt/${second}/owned`), '33:33 1000:1000');
  });

  step(
    'volume set --size of a volume in use: the container has the room at once, in the mount that it has',
    async () => {
      const { servers } = stack();
      // Not ext4: to grow that while it is mounted needs a capability that a container which runs these tests may lack.
      const growing = await stack().blankXfsVolume('growing');
      const at = `/mnt/${growing}`;
      await servers.attach(server.id, growing);
      await stack().inside(server, `echo here > ${at}/mine; chown 1000:33 ${at}/mine`);
      const mountOf = () => stack().inside(server, `grep ' ${at} ' /proc/self/mountinfo`);
      const mounted = await mountOf();
      assert.ok((await sizeMib(at)) < 1024);

      await servers.enlargeVolume(growing, 2);

      // Cinder tells Nova, which tells the driver.
      const size = await waited('the room to be there', async () => {
        const mib = await sizeMib(at);
        return mib > 1800 && mib;
      });
      assert.equal(await mountOf(), mounted);
      assert.equal(await owners(`${at}/mine`), '1000:33');
      assert.equal(statSync(stack().volumeFile(growing)).size, 2 * 2 ** 30);
      assert.equal(await stack().novaVolumeSize(server, growing), 2);
      await servers.detach(server.id, growing);
      await servers.deleteVolume(growing);
      return `${size} MiB`;
    },
  );

  step('remove volume is refused while a process is in it', async () => {
    const { servers } = stack();
    await stack().inside(server, HOLDER);

    await servers.tryDetach(server.id, first);

    await servers.volumeIs(first, 'in-use');
    assert.ok((await stack().novaVolumes(server)).includes(first));
    assert.equal(await owners('/mnt/data/owned'), '1000:1000');
    await stack().inside(server, 'kill $(cat /tmp/holder)');
  });

  step('remove volume takes it out, and on its disk the owners are what they were inside', async () => {
    await stack().servers.detach(server.id, first);

    assert.equal(await stack().inside(server, 'grep -c /mnt/data /proc/mounts || true'), '0');
    for (const [file, owner] of [
      ['written', '33:33'],
      ['owned', '1000:1000'],
      ['rooted', '0:0'],
    ] as const)
      assert.equal(await stack().ownerOnDisk(stack().volumeFile(first), `/${file}`), owner);
  });

  step('an attach of a volume without a file system fails, and the volume is available again', async () => {
    const { servers } = stack();
    const blank = await servers.volume('blank');

    await servers.tryAttach(server.id, blank);

    await servers.volumeIs(blank, 'available');
    // Nova forgets it a moment after Cinder does.
    await waited('Nova to forget the volume', async () => !(await stack().novaVolumes(server)).includes(blank));
    await servers.deleteVolume(blank);
  });

  step('server delete lets go of volumes that are still attached', async () => {
    const { servers } = stack();
    await servers.attach(server.id, first);

    await servers.delete(server.id);
    await Promise.all([first, second].map(id => servers.volumeIs(id, 'available')));

    assert.deepEqual(await stack().host('node1').ask('list'), []);
    assert.equal(await stack().ownerOnDisk(stack().volumeFile(second), '/owned'), '1000:1000');
    await servers.deleteVolume(second);
  });

  step('boot from volume: the root file system is a Cinder volume', async () => {
    const { servers, images } = stack();
    const root = await servers.volume('root', { imageRef: images.raw });
    const volumes = [{ boot_index: 0, uuid: root, source_type: 'volume', destination_type: 'volume' }];

    const booted = await servers.boot({ name: 'from-volume', host: 'node1', volumes });
    await stack().inside(booted, 'echo here > /root/where; chown 1000 /root/where');
    await servers.change(booted.id, { reboot: { type: 'HARD' } }, 'ACTIVE');
    assert.equal(await stack().inside(booted, 'cat /root/where'), 'here');
    await servers.delete(booted.id);
    await servers.volumeIs(root, 'available');

    assert.equal(await stack().ownerOnDisk(stack().volumeFile(root), '/root/where'), '1000:0');
    await servers.deleteVolume(root);
    await servers.deleteVolume(first);
  });

  const sizeMib = async (path: string) =>
    Math.round(Number(await stack().inside(server, `df -k ${path} | tail -1 | awk '{print $2}'`)) / 1024);
  const owners = (paths: string) => stack().inside(server, `stat -c %u:%g ${paths} | xargs`);
}
