/** Servers go from one host to the other, whose ids are others: the map changes, no file does. */
import assert from 'node:assert/strict';
import type { Server } from './servers.ts';
import { step } from './steps.ts';
import type { OpenStack } from './world.ts';

const DIGEST = "cd / && find bin sbin etc home root srv -exec stat -c '%n %u:%g %a %Z' {} + | sort | md5sum";

export function moveSteps(stack: () => OpenStack): void {
  let server: Server;
  let volume: string;
  let digest: string;
  let base: number;

  step('migrate moves a server with its volume to the other host, and chowns nothing', async () => {
    const { servers, images } = stack();
    volume = await stack().formattedVolume('moves');
    server = await servers.boot({ name: 'mover', image: images.raw, host: 'node1' });
    await servers.attach(server.id, volume);
    await stack().inside(server, `echo mine > /root/mine; chown 1000 /root/mine; echo v > /mnt/${volume}/mine`);
    digest = await stack().inside(server, DIGEST);
    base = await stack().idBase(server);

    await servers.change(server.id, { migrate: null }, 'VERIFY_RESIZE');
    server = await servers.change(server.id, { confirmResize: null }, 'ACTIVE');

    assert.equal(server.host, 'node2');
    assert.notEqual(await stack().idBase(server), base);
    // The time of the last change of owner or mode is in it: a chown would show.
    assert.equal(await stack().inside(server, DIGEST), digest);
    assert.equal(await stack().inside(server, `stat -c %u /mnt/${volume}/owned`), '1000');
    assert.equal((await stack().novaRow(server))['host'], 'node2');
    assert.deepEqual(await stack().host('node1').containers(), []);
    assert.deepEqual(await stack().host('node1').ask('list'), []);
  });

  step('a migration that is reverted leaves the server where and as it was', async () => {
    const { servers } = stack();

    await servers.change(server.id, { migrate: null }, 'VERIFY_RESIZE');
    server = await servers.change(server.id, { revertResize: null }, 'ACTIVE');

    assert.equal(server.host, 'node2');
    assert.equal(await stack().inside(server, DIGEST), digest);
    assert.equal(await stack().inside(server, `cat /mnt/${volume}/mine`), 'v');
    assert.deepEqual(await stack().host('node1').containers(), []);
  });

  step('live migration is refused with words, and the server goes on', async () => {
    const { servers } = stack();
    const init = await stack().initPid(server);

    await servers.tryAct(server.id, { 'os-migrateLive': { host: null, block_migration: 'auto' } });
    server = await servers.settled(server.id, 'ACTIVE');

    assert.equal(server.host, 'node2');
    assert.equal(await stack().initPid(server), init);
  });

  step('it is deleted on the host that it went to', async () => {
    const { servers } = stack();

    await servers.delete(server.id);
    await servers.volumeIs(volume, 'available');

    for (const host of stack().hosts) assert.deepEqual(await host.ask('list'), []);
    assert.equal(await stack().ownerOnDisk(stack().volumeFile(volume), '/owned'), '1000:1000');
    await servers.deleteVolume(volume);
  });
}
