/** What the servers see of it when something around them is started anew: nothing. */
import assert from 'node:assert/strict';
import type { Server } from './servers.ts';
import { step } from './steps.ts';
import type { OpenStack } from './world.ts';

export function restartSteps(stack: () => OpenStack): void {
  let server: Server;
  let volume: string;
  let extra: string;
  let init: number;

  /** It ran all the time, has its volume, and what is asked of Nova now is done. */
  const goesOn = async () => {
    const { servers } = stack();
    assert.equal(await stack().initPid(server), init);
    assert.equal(await stack().inside(server, `stat -c %u /mnt/${volume}/owned`), '1000');
    await servers.attach(server.id, extra);
    assert.equal(await stack().inside(server, `stat -c %u /mnt/${extra}/owned`), '1000');
    await servers.detach(server.id, extra);
    const shown = await servers.get(server.id);
    assert.deepEqual([shown.status, shown.power], ['ACTIVE', 1]);
  };

  step('a server with a volume, before anything is restarted', async () => {
    const { servers, images } = stack();
    volume = await stack().formattedVolume('kept');
    extra = await stack().formattedVolume('extra');
    server = await servers.boot({ name: 'stays', image: images.raw, host: 'node1' });
    await servers.attach(server.id, volume);
    init = await stack().initPid(server);
    await goesOn();
  });

  step('the agent is stopped and started', async () => {
    const host = stack().host('node1');
    await host.stopAgent();
    await host.startAgent();
    await goesOn();
  });

  step(
    'the agent is killed in the middle of a boot: the boot ends, one way or the other, and nothing is left of a failed one',
    async () => {
      const { servers, images } = stack();
      const host = stack().host('node1');

      const id = await servers.ask({ name: 'unlucky', image: images.raw, host: 'node1' });
      await servers.underWay(id, 'spawning');
      await host.stopAgent('SIGKILL');
      await host.startAgent();
      const ended = await servers.ended(id);

      await servers.delete(id);
      assert.deepEqual(await host.containers(), [server.instance]);
      await goesOn();
      return `the boot was ${ended.status}`;
    },
  );

  step('nova-compute is killed and started', async () => {
    const { cloud } = stack();
    await cloud.stopCompute('node1', { kill: true });
    await cloud.startComputes(['node1']);
    await goesOn();
  });

  step('RabbitMQ is stopped and started', async () => {
    const { cloud } = stack();
    await cloud.stopBroker();
    await cloud.startBroker();
    await cloud.heard();
    await goesOn();
  });

  step('LXD is stopped and started', async () => {
    const { lxd } = stack().host('node1');
    await lxd.stopDaemon();
    await lxd.startDaemon();
    await goesOn();
  });

  step('after all of it the server is stopped, started and deleted', async () => {
    const { servers } = stack();
    await servers.change(server.id, { 'os-stop': null }, 'SHUTOFF');
    await servers.change(server.id, { 'os-start': null }, 'ACTIVE');
    assert.equal(await stack().inside(server, `stat -c %u /mnt/${volume}/owned`), '1000');
    await servers.delete(server.id);
    await Promise.all([volume, extra].map(id => servers.volumeIs(id, 'available')));
    await Promise.all([volume, extra].map(id => servers.deleteVolume(id)));
    assert.deepEqual(await stack().host('node1').ask('list'), []);
  });
}
