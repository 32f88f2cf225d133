/** A server goes through every state that Nova has for it, and comes out of each with what was in it. */
import assert from 'node:assert/strict';
import type { Server } from './servers.ts';
import { step } from './steps.ts';
import type { OpenStack } from './world.ts';

export function stateSteps(stack: () => OpenStack): void {
  let one: Server;

  /** What Nova's database has of it. */
  const assertRow = async (vmState: string, power: string, more: Readonly<Record<string, string>> = {}) => {
    const row = await stack().novaRow(one);
    assert.deepEqual([row['vm_state'], row['power_state'], row['task_state']], [vmState, power, 'NULL']);
    for (const [column, value] of Object.entries(more)) assert.equal(row[column], value, column);
  };
  const assertKept = async () => {
    assert.equal(await stack().inside(one, 'cat /root/kept; stat -c %u:%g /root/kept'), 'kept\n1000:0');
    assert.equal(await stack().ownerInRoot(one, '/root/kept'), '1000:0');
  };
  const sizeMib = async () =>
    Math.round(Number(await stack().inside(one, "df -k / | tail -1 | awk '{print $2}'")) / 1024);

  step('stop and start, with the power state in Nova and in LXD', async () => {
    const { servers, images } = stack();
    one = await servers.boot({ name: 'states', image: images.raw, host: 'node1' });
    await stack().inside(one, 'echo kept > /root/kept; chown 1000 /root/kept');

    assert.equal((await servers.change(one.id, { 'os-stop': null }, 'SHUTOFF')).power, 4);
    assert.equal(await stack().initPid(one), 0);
    await assertRow('stopped', '4');

    assert.equal((await servers.change(one.id, { 'os-start': null }, 'ACTIVE')).power, 1);
    await assertRow('active', '1');
    await assertKept();
  });

  step('pause and unpause, suspend and resume: the same processes go on', async () => {
    const { servers } = stack();
    const init = await stack().initPid(one);

    assert.equal((await servers.change(one.id, { pause: null }, 'PAUSED')).power, 3);
    await assertRow('paused', '3');
    assert.deepEqual(await stack().host('node1').containerStates(), ['Frozen']);
    await servers.change(one.id, { unpause: null }, 'ACTIVE');
    await servers.change(one.id, { suspend: null }, 'SUSPENDED');
    assert.equal((await stack().novaRow(one))['vm_state'], 'suspended');
    assert.deepEqual(await stack().host('node1').containerStates(), ['Frozen']);
    await servers.change(one.id, { resume: null }, 'ACTIVE');

    assert.equal(await stack().initPid(one), init);
    await assertRow('active', '1');
    await assertKept();
  });

  step('a server that is deleted softly is off and whole, and restored it runs again', async () => {
    const { servers } = stack();

    await servers.softDelete(one.id);
    assert.equal(await stack().initPid(one), 0);
    await assertRow('soft-delete', '4');
    assert.deepEqual(
      (await stack().host('node1').attachments()).map(a => a.instance),
      [one.id],
    );

    one = await servers.change(one.id, { restore: null }, 'ACTIVE');
    await assertRow('active', '1', { deleted: '0' });
    await assertKept();
  });

  step('resize grows the root file system, and keeps what is in it', async () => {
    const { servers } = stack();
    const before = await sizeMib();

    await servers.without('node2', () => servers.change(one.id, { resize: { flavorRef: 't2' } }, 'VERIFY_RESIZE'));
    await assertRow('resized', '1', { memory_mb: '256', root_gb: '2' });
    one = await servers.change(one.id, { confirmResize: null }, 'ACTIVE');

    const after = await sizeMib();
    assert.ok(after > before * 1.5, `${before} MiB before, ${after} MiB after`);
    assert.equal(one.host, 'node1');
    await assertRow('active', '1', { memory_mb: '256', root_gb: '2' });
    await assertKept();
    return `${before} MiB to ${after} MiB`;
  });

  step('a resize that is reverted keeps what was written before it', async () => {
    const { servers } = stack();

    await servers.without('node2', () => servers.change(one.id, { resize: { flavorRef: 't3' } }, 'VERIFY_RESIZE'));
    one = await servers.change(one.id, { revertResize: null }, 'ACTIVE');

    await assertRow('active', '1', { memory_mb: '256', root_gb: '2' });
    await assertKept();
  });

  step('rebuild gives a new root file system under the same name', async () => {
    const { servers, images } = stack();

    one = await servers.change(one.id, { rebuild: { imageRef: images.qcow2 } }, 'ACTIVE');

    assert.equal(await stack().inside(one, 'ls /root'), '');
    await assertRow('active', '1', { image_ref: images.qcow2 });
    assert.equal(await stack().ownerInRoot(one, '/home/app'), '1000:1000');
    assert.deepEqual(await stack().host('node1').containers(), [one.instance]);
  });

  step('shelve puts the root into Glance, and unshelve makes a server of it again', async () => {
    const { servers } = stack();
    await stack().inside(one, 'echo kept > /root/kept; chown 1000 /root/kept');

    await servers.change(one.id, { shelve: null }, 'SHELVED_OFFLOADED');
    assert.equal((await stack().novaRow(one))['vm_state'], 'shelved_offloaded');
    for (const host of stack().hosts) assert.deepEqual([await host.containers(), host.mounts()], [[], []]);
    one = await servers.change(one.id, { unshelve: null }, 'ACTIVE');

    await assertRow('active', '1', { host: one.host });
    await assertKept();
    await servers.delete(one.id);
  });
}
