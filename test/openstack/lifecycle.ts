/** Servers are made, used, looked at and deleted. */
import assert from 'node:assert/strict';
import * as z from 'zod';
import type { Server } from './servers.ts';
import { step } from './steps.ts';
import type { OpenStack } from './world.ts';

const PROVIDERS = z.object({ resource_providers: z.array(z.object({ uuid: z.string() })) });
const TRAITS = z.object({ traits: z.array(z.string()) });
const INVENTORIES = z.object({ inventories: z.record(z.string(), z.unknown()) });

export function lifecycleSteps(stack: () => OpenStack): void {
  let one: Server;

  step('Placement has the inventory and the trait of both hosts', async () => {
    const { cloud, hosts } = stack();
    for (const { name } of hosts) {
      const { api } = cloud;
      const found = PROVIDERS.parse(await api.get('placement', `/resource_providers?name=${name}`));
      const path = `/resource_providers/${found.resource_providers[0]?.uuid}`;
      const { traits } = TRAITS.parse(await api.get('placement', `${path}/traits`));
      const { inventories } = INVENTORIES.parse(await api.get('placement', `${path}/inventories`));
      assert.ok(traits.includes('CUSTOM_SHIFTVOL'), `${traits}`);
      assert.deepEqual(Object.keys(inventories).toSorted(), ['DISK_GB', 'MEMORY_MB', 'VCPU']);
    }
  });

  step('server create boots an unprivileged container whose root is our mapped snapshot', async () => {
    const { servers, images } = stack();
    const metadata = { 'shiftvol:path': '/data' };

    one = await servers.boot({ name: 'one', image: images.raw, host: 'node1', flavor: 'shifted', metadata });

    const { ids } = stack().host('node1');
    const base = await stack().idBase(one);
    assert.ok(base >= ids.start && base < ids.start + ids.count, `its root is ${base} on the host`);
    assert.equal(await owners(one, '/ /bin/busybox /home/app'), '0:0 0:0 1000:1000');
    assert.match(await stack().inside(one, 'cut -d" " -f1,2,3 /proc/mounts'), /^\S+ \/ ext4$/m);
    const row = await stack().novaRow(one);
    assert.deepEqual([row['vm_state'], row['power_state'], row['host']], ['active', '1', 'node1']);
  });

  step('the next one of the same image is there without an import', async () => {
    const { servers, images } = stack();
    const before = await stack().downloads(images.raw);

    const two = await servers.boot({ name: 'two', image: images.raw, host: 'node1' });

    assert.equal(await stack().downloads(images.raw), before);
    assert.notEqual(await stack().idBase(two), await stack().idBase(one));
    await stack().inside(two, 'echo two > /home/app/name');
    assert.equal(await stack().inside(one, 'ls /home/app'), '');
    await servers.delete(two.id);
  });

  step('six of a new image at once wait for one import', async () => {
    const { servers, images } = stack();
    const before = await stack().downloads(images.qcow2);

    const names = [1, 2, 3, 4, 5, 6].map(n => `many-${n}`);
    const booted = await Promise.all(names.map(name => servers.boot({ name, image: images.qcow2, host: 'node1' })));

    assert.equal((await stack().downloads(images.qcow2)) - before, 1);
    assert.equal(new Set(await Promise.all(booted.map(server => stack().idBase(server)))).size, 6);
    await Promise.all(booted.map(server => servers.delete(server.id)));
  });

  step('reboot, soft and hard, keeps what was written', async () => {
    const { servers } = stack();
    await stack().inside(one, 'echo kept > /root/kept; chown 1000 /root/kept');
    const init = await stack().initPid(one);

    await servers.change(one.id, { reboot: { type: 'SOFT' } }, 'ACTIVE');
    await servers.change(one.id, { reboot: { type: 'HARD' } }, 'ACTIVE');

    assert.notEqual(await stack().initPid(one), init);
    assert.equal(await stack().inside(one, 'cat /root/kept'), 'kept');
    assert.equal(await owners(one, '/root/kept'), '1000:0');
  });

  step('console log show has what was written to the console', async () => {
    await stack().inside(one, 'echo "hello from one" > /dev/console');

    assert.match(await stack().servers.console(one.id), /hello from one/);
  });

  step('image create makes an image that boots with what was in it', async () => {
    const { servers, cloud } = stack();

    const image = await servers.snapshot(one.id, 'of-one');
    const copy = await servers.boot({ name: 'copy', image, host: 'node1' });

    assert.equal(await stack().inside(copy, 'cat /root/kept'), 'kept');
    assert.equal(await owners(copy, '/root/kept /home/app'), '1000:0 1000:1000');
    await servers.delete(copy.id);
    await cloud.api.delete('glance', `/images/${image}`);
  });

  step('server delete leaves no container, no mount and no id', async () => {
    const { servers } = stack();

    await servers.delete(one.id);

    for (const host of stack().hosts) {
      assert.deepEqual(await host.containers(), []);
      assert.deepEqual(await host.ask('list'), []);
    }
    assert.equal((await stack().novaRow(one))['vm_state'], 'deleted');
  });

  const owners = (server: Server, paths: string) => stack().inside(server, `stat -c %u:%g ${paths} | xargs`);
}
