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

  step('stop and start, with the power state in Nova and in LXD', async () => {
    const { servers } = stack();

    const stopped = await servers.change(one.id, { 'os-stop': null }, 'SHUTOFF');
    assert.equal(stopped.power, 4);
    assert.equal(await stack().initPid(one), 0);

    const started = await servers.change(one.id, { 'os-start': null }, 'ACTIVE');
    assert.equal(started.power, 1);
    assert.equal(await stack().inside(one, 'cat /root/kept'), 'kept');
  });

  step('pause and unpause, suspend and resume', async () => {
    const { servers } = stack();
    const init = await stack().initPid(one);

    assert.equal((await servers.change(one.id, { pause: null }, 'PAUSED')).power, 3);
    await servers.change(one.id, { unpause: null }, 'ACTIVE');
    await servers.change(one.id, { suspend: null }, 'SUSPENDED');
    await servers.change(one.id, { resume: null }, 'ACTIVE');

    assert.equal(await stack().initPid(one), init);
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

  step('resize grows the root file system, and keeps what is in it', async () => {
    const { servers } = stack();
    const before = await sizeMib(one);

    await servers.without('node2', () => servers.change(one.id, { resize: { flavorRef: 't2' } }, 'VERIFY_RESIZE'));
    one = await servers.change(one.id, { confirmResize: null }, 'ACTIVE');

    const after = await sizeMib(one);
    assert.ok(after > before * 1.5, `${before} MiB before, ${after} MiB after`);
    assert.equal(await stack().inside(one, 'cat /root/kept'), 'kept');
    assert.equal(one.host, 'node1');
    return `${before} MiB to ${after} MiB`;
  });

  step('a resize that is reverted keeps what was written before it', async () => {
    const { servers } = stack();

    await servers.without('node2', () => servers.change(one.id, { resize: { flavorRef: 't3' } }, 'VERIFY_RESIZE'));
    one = await servers.change(one.id, { revertResize: null }, 'ACTIVE');

    assert.equal(await stack().inside(one, 'cat /root/kept'), 'kept');
  });

  step('rebuild gives a new root file system under the same name', async () => {
    const { servers, images } = stack();

    one = await servers.change(one.id, { rebuild: { imageRef: images.raw } }, 'ACTIVE');

    assert.equal(await stack().inside(one, 'ls /root'), '');
  });

  step('shelve puts the root into Glance, and unshelve makes a server of it again', async () => {
    const { servers } = stack();
    await stack().inside(one, 'echo shelved > /root/kept');

    await servers.change(one.id, { shelve: null }, 'SHELVED_OFFLOADED');
    one = await servers.change(one.id, { unshelve: null }, 'ACTIVE');

    assert.equal(await stack().inside(one, 'cat /root/kept'), 'shelved');
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
  const sizeMib = async (server: Server) =>
    Math.round(Number(await stack().inside(server, "df -k / | tail -1 | awk '{print $2}'")) / 1024);
}
