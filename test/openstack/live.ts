/** What this driver calls a live migration, where the operator wants it: stopped, moved, started, and told for how long that took. */
import assert from 'node:assert/strict';
import type { Server } from './servers.ts';
import { step } from './steps.ts';
import type { OpenStack } from './world.ts';

/** The time of the last change of owner or mode is in it: a chown would show. */
const DIGEST = "cd / && find bin sbin etc home root srv -exec stat -c '%n %u:%g %a %Z' {} + | sort | md5sum";

export function liveSteps(stack: () => OpenStack): void {
  let server: Server;
  let root: string;
  let volume: string;
  let digest: string;

  step('live migration is refused with words, and the server goes on', async () => {
    const { servers, images } = stack();
    volume = await stack().formattedVolume('live-data');
    root = await servers.volume('live-root', { imageRef: images.raw });
    const volumes = [{ boot_index: 0, uuid: root, source_type: 'volume', destination_type: 'volume' }];
    server = await servers.boot({ name: 'live', host: 'node1', volumes });
    await servers.attach(server.id, volume);
    await stack().inside(server, `echo mine > /root/mine; chown 1000 /root/mine; echo v > /mnt/${volume}/mine`);
    digest = await stack().inside(server, DIGEST);
    const init = await stack().initPid(server);

    await servers.tryAct(server.id, { 'os-migrateLive': { host: null, block_migration: 'auto' } });
    server = await servers.settled(server.id, 'ACTIVE');

    assert.equal(server.host, 'node1');
    assert.equal(await stack().initPid(server), init);
  });

  step('with stop_and_move it is on the other host, with its volumes, and how long it was down is told', async () => {
    const { servers } = stack();
    const base = await stack().idBase(server);
    for (const host of stack().hosts)
      await host.configure({ nova: { enabled: true, live_migration: 'stop_and_move' } });
    await servers.settled(server.id, 'ACTIVE');

    server = await servers.change(
      server.id,
      { 'os-migrateLive': { host: null, block_migration: 'auto' } },
      'ACTIVE',
      'node2',
    );

    const to = stack().host('node2');
    const now = await stack().idBase(server);
    assert.ok(now !== base && now >= to.ids.start && now < to.ids.start + to.ids.count, `${base}, then ${now}`);
    assert.equal(await stack().inside(server, DIGEST), digest);
    assert.equal(await stack().inside(server, `stat -c %u /mnt/${volume}/owned; cat /mnt/${volume}/mine`), '1000\nv');
    const from = stack().host('node1');
    assert.deepEqual([await from.containers(), await from.ask('list'), from.mounts()], [[], [], []]);
    const { host, vm_state, power_state, task_state } = await stack().novaRow(server);
    assert.deepEqual([host, vm_state, power_state, task_state], ['node2', 'active', '1', 'NULL']);
    assert.deepEqual((await stack().novaVolumes(server)).toSorted(), [root, volume].toSorted());
    const moved = (await to.attachments()).find(a => a.role === 'root')?.moved;
    assert.equal(moved?.from, 'node1');
    assert.match(to.log(), new RegExp(`moved here from "node1".*down_ms\\W+${moved.downMs}\\b`));
    return `down for ${moved.downMs} ms`;
  });

  step('it is deleted there, and its volumes are as it left them', async () => {
    const { servers } = stack();

    await servers.delete(server.id);
    await Promise.all([volume, root].map(id => servers.volumeIs(id, 'available')));

    for (const host of stack().hosts) assert.deepEqual(await host.ask('list'), []);
    assert.equal(await stack().ownerOnDisk(stack().volumeFile(root), '/root/mine'), '1000:0');
    assert.equal(await stack().ownerOnDisk(stack().volumeFile(volume), '/owned'), '1000:1000');
    await Promise.all([volume, root].map(id => servers.deleteVolume(id)));
    for (const host of stack().hosts) await host.configure();
  });
}
