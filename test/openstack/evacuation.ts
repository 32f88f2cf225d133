/** A host dies with its servers on it: they are evacuated, and when it is back it must not touch a volume that is elsewhere by then. */
import assert from 'node:assert/strict';
import type { Server } from './servers.ts';
import { step } from './steps.ts';
import { waited } from './waited.ts';
import type { OpenStack } from './world.ts';

export function evacuationSteps(stack: () => OpenStack): void {
  let server: Server;
  let root: string;
  let volume: string;
  let init: number;

  step('a host dies: its server is evacuated to the other one, with its volumes', async () => {
    const { servers, images, cloud } = stack();
    volume = await stack().formattedVolume('rescued-data');
    root = await servers.volume('rescued-root', { imageRef: images.raw });
    const volumes = [{ boot_index: 0, uuid: root, source_type: 'volume', destination_type: 'volume' }];
    server = await servers.boot({ name: 'evacuated', host: 'node1', volumes });
    await servers.attach(server.id, volume);
    await stack().inside(server, `echo mine > /root/mine; chown 1000 /root/mine; echo v > /mnt/${volume}/mine; sync`);
    const base = await stack().idBase(server);
    await cloud.stopCompute('node1', { kill: true });
    await stack().host('node1').crash();
    await servers.forceDown('node1');

    server = await servers.change(server.id, { evacuate: {} }, 'ACTIVE', 'node2');

    init = await stack().initPid(server);
    assert.notEqual(await stack().idBase(server), base);
    assert.equal(await stack().inside(server, 'cat /root/mine; stat -c %u /root/mine'), 'mine\n1000');
    assert.equal(await stack().inside(server, `stat -c %u /mnt/${volume}/owned; cat /mnt/${volume}/mine`), '1000\nv');
    const { host, vm_state } = await stack().novaRow(server);
    assert.deepEqual([host, vm_state], ['node2', 'active']);
    assert.deepEqual((await stack().novaVolumes(server)).toSorted(), [root, volume].toSorted());
  });

  step('the host is back: it waits for what is elsewhere, and mounts none of it', async () => {
    const back = stack().host('node1');
    await back.startAgent();

    const { attachments } = await back.recover();

    assert.deepEqual(attachments.map(a => [a.target, a.did]).toSorted(), [
      ['/', 'waits'],
      [`/mnt/${volume}`, 'waits'],
    ]);
    assert.deepEqual(back.mounts(), []);
    assert.equal(await stack().initPid(server), init);
  });

  step(
    'the server is deleted where it went; when its nova-compute is back, the dead host lets go of what it had',
    async () => {
      const { servers, cloud } = stack();
      const back = stack().host('node1');
      assert.equal(await stack().initPid(server), init);
      await stack().inside(server, `echo again >> /mnt/${volume}/mine; sync`);
      // Before node1 does, since both hosts are one machine: as long as node2 has the volume's file, node1 sees that somebody has it.
      await servers.delete(server.id);
      await Promise.all([volume, root].map(id => servers.volumeIs(id, 'available')));
      assert.equal(await stack().ownerOnDisk(stack().volumeFile(root), '/root/mine'), '1000:0');
      assert.equal(await stack().textOnDisk(stack().volumeFile(volume), '/mine'), 'v\nagain\n');

      cloud.launchCompute('node1');
      // Nova does not let a host up before its nova-compute has looked through what was evacuated from it.
      await waited('node1 to be let up', () => servers.tryForceUp('node1'));
      await cloud.startComputes(['node1']);

      await waited('node1 to let go of it', async () => (await back.containers()).length === 0);
      assert.deepEqual([await back.ask('list'), back.mounts()], [[], []]);
      await Promise.all([volume, root].map(id => servers.deleteVolume(id)));
    },
  );
}
