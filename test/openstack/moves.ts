/** Servers go from one host to the other, whose ids are others: the map changes, no file does. */
import assert from 'node:assert/strict';
import type { Server } from './servers.ts';
import { step } from './steps.ts';
import type { OpenStack } from './world.ts';

/** The time of the last change of owner or mode is in it: a chown would show. */
const DIGEST = "cd / && find bin sbin etc home root srv -exec stat -c '%n %u:%g %a %Z' {} + | sort | md5sum";

export function moveSteps(stack: () => OpenStack): void {
  let server: Server;
  let volume: string;
  let root: string;
  let digest: string;

  const prepare = async (booted: Server) => {
    await stack().servers.attach(booted.id, volume);
    await stack().inside(booted, `echo mine > /root/mine; chown 1000 /root/mine; echo v > /mnt/${volume}/mine`);
    digest = await stack().inside(booted, DIGEST);
  };
  const assertMoved = async (base: number) => {
    assert.equal(server.host, 'node2');
    const { ids } = stack().host('node2');
    const now = await stack().idBase(server);
    assert.ok(now !== base && now >= ids.start && now < ids.start + ids.count, `its root was ${base}, is ${now}`);
    assert.equal(await stack().inside(server, DIGEST), digest);
    assert.equal(await stack().inside(server, `stat -c %u /mnt/${volume}/owned`), '1000');
    assert.equal((await stack().novaRow(server))['host'], 'node2');
    assert.deepEqual(await stack().host('node1').containers(), []);
    assert.deepEqual(await stack().host('node1').ask('list'), []);
  };

  step('migrate of a server that boots from a volume: on the other host only the map is new', async () => {
    const { servers, images } = stack();
    volume = await stack().formattedVolume('moves');
    root = await servers.volume('moving-root', { imageRef: images.raw });
    const volumes = [{ boot_index: 0, uuid: root, source_type: 'volume', destination_type: 'volume' }];
    server = await servers.boot({ name: 'mover', host: 'node1', volumes });
    await prepare(server);
    const base = await stack().idBase(server);

    await servers.change(server.id, { migrate: null }, 'VERIFY_RESIZE');
    server = await servers.change(server.id, { confirmResize: null }, 'ACTIVE');

    await assertMoved(base);
  });

  step('a migration that is reverted leaves the server where and as it was', async () => {
    const { servers } = stack();

    await servers.change(server.id, { migrate: null }, 'VERIFY_RESIZE');
    assert.equal((await servers.get(server.id)).host, 'node1');
    server = await servers.change(server.id, { revertResize: null }, 'ACTIVE');

    assert.equal(server.host, 'node2');
    assert.equal(await stack().inside(server, DIGEST), digest);
    assert.equal(await stack().inside(server, `cat /mnt/${volume}/mine`), 'v');
    assert.deepEqual(await stack().host('node1').containers(), []);
  });

  step('it is deleted on the host that it went to', async () => {
    const { servers } = stack();

    await servers.delete(server.id);
    await Promise.all([volume, root].map(id => servers.volumeIs(id, 'available')));

    for (const host of stack().hosts) assert.deepEqual(await host.ask('list'), []);
    assert.equal(await stack().ownerOnDisk(stack().volumeFile(volume), '/owned'), '1000:1000');
    assert.equal(await stack().ownerOnDisk(stack().volumeFile(root), '/root/mine'), '1000:0');
    await servers.deleteVolume(root);
  });

  step('migrate of a server that boots from an image: its root goes along, and nothing is chowned', async () => {
    const { servers, images } = stack();
    server = await servers.boot({ name: 'local-mover', image: images.raw, host: 'node1' });
    await prepare(server);
    const base = await stack().idBase(server);

    await servers.change(server.id, { migrate: null }, 'VERIFY_RESIZE');
    server = await servers.change(server.id, { confirmResize: null }, 'ACTIVE');

    await assertMoved(base);
    const moved = (await stack().host('node2').attachments()).find(a => a.role === 'root')?.moved;
    assert.equal(moved?.from, 'node1');
    assert.match(stack().host('node1').log(), /the first pass of its root has arrived, it runs on/);
    return `down for ${moved.downMs} ms`;
  });

  step(
    'from a host that gives no roots away a migration is refused, and the server goes on; then it is deleted',
    async () => {
      const { servers } = stack();
      const init = await stack().initPid(server);

      await servers.tryAct(server.id, { migrate: null });
      server = await servers.settled(server.id, 'ACTIVE');

      assert.equal(server.host, 'node2');
      assert.equal(await stack().initPid(server), init);
      assert.equal(await stack().inside(server, 'cat /root/mine'), 'mine');
      await servers.delete(server.id);
      await servers.volumeIs(volume, 'available');
      await servers.deleteVolume(volume);
      for (const host of stack().hosts) assert.deepEqual(await host.containers(), []);
    },
  );
}
