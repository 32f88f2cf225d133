/** Nova’s cold migration between two agents: the root goes over the network, the volume stays where both reach it, the ids are others. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { list } from './ask.ts';
import {
  agents,
  ask,
  assertClean,
  bootWithData,
  call,
  common,
  confirm,
  destroyArgs,
  digestOfRoot,
  finishArgs,
  halfWay,
  hostIdOf,
  incoming,
  instance,
  leaveArgs,
  migration,
  restart,
  savedOn,
  sh,
  spawnArgs,
  useNodes,
  VOLUME,
  worldOf,
} from './migrate-nova-world.ts';

useNodes();

/** All of it is on the other host, nothing is left on this one, and nothing there when it is destroyed. */
async function assertMoved(sum: string): Promise<void> {
  await confirm();
  assert.equal(await sh('node2', 'sha256sum /root/big'), sum);
  await assertClean('node1');
  await call('node2', 'destroy', destroyArgs());
  await assertClean('node2');
}

test('an instance moves with its root and its volume to ids of another host, owners stay, and nothing is left behind', async () => {
  const { sum } = await bootWithData(32);
  const before = await hostIdOf('node1');
  const told = await call('node1', 'migrate_disk_and_power_off', leaveArgs('node2'));
  const onSource = await digestOfRoot('node1');
  await call('node2', 'finish_migration', { ...finishArgs(told), power_on: false });
  const onTarget = await digestOfRoot('node2');
  assert.deepEqual(onTarget.lines, onSource.lines, 'every byte and owner on the disk');

  await call('node2', 'power_on', { instance: instance(), ...common() });
  await call('node1', 'confirm_migration', {
    migration: migration('node1', 'node2'),
    instance: instance(),
    network_info: [],
  });
  assert.notEqual(await hostIdOf('node2'), before);
  assert.equal(
    await sh('node2', 'sha256sum /root/big; stat -c %u:%g /root/big /home/app /'),
    `${sum}\n1000:1000\n1000:1000\n0:0`,
  );
  assert.equal(
    await sh('node2', `stat -c %u /mnt/${VOLUME}/hello; cat /mnt/${VOLUME}/hello`),
    '1000\nfrom cinder\nmore',
  );
  await assertClean('node1');
  assert.deepEqual(incoming('node2'), []);
  const offers = join(worldOf('node1').stateDir, 'offers');
  assert.deepEqual(readdirSync(offers), []);
  await call('node2', 'destroy', destroyArgs());
  await assertClean('node2');
});

test('from a host that gives no roots away it does not move, and runs on', async () => {
  await call('node2', 'spawn', spawnArgs());
  const { remote, text } = await ask('node2', 'migrate_disk_and_power_off', leaveArgs('node1'));
  assert.equal(remote?.type, 'MigrationError');
  assert.match(text ?? '', /migration\.listen/);
  assert.equal(await sh('node2', 'echo up'), 'up');
  await call('node2', 'destroy', destroyArgs());
  await assertClean('node2');
});

test('it is down for what changed since the first pass, not for all of its root; how long is told in one number', async () => {
  await bootWithData(160);
  await sh(
    'node1',
    '(while :; do dd if=/dev/urandom of=/root/changes bs=1M count=4 conv=notrunc; sleep 1; done) >/dev/null 2>&1 &',
  );

  const told = await call('node1', 'migrate_disk_and_power_off', leaveArgs('node2'));
  const answer = (await call('node2', 'finish_migration', finishArgs(told))) as { down_ms: number };
  await confirm();

  const passes = (agents.get('node1')?.log() ?? '').match(/a volume was sent.*/g) ?? [];
  const [first, last] = passes.slice(-2).map(line => Number(/changed_bytes\W+(\d+)/.exec(line)?.[1]));
  assert.ok((first ?? 0) > 160 * 2 ** 20, `${passes}`);
  assert.ok((last ?? 0) < 40 * 2 ** 20, `${passes}`);
  const root = (await list(worldOf('node2'))).find(a => a.role === 'root');
  assert.deepEqual([root?.moved?.from, root?.moved?.downMs], ['node1', answer.down_ms]);
  assert.match(
    agents.get('node2')?.log() ?? '',
    new RegExp(`moved here from "node1".*down_ms\\W+${answer.down_ms}\\b`),
  );
  await call('node2', 'destroy', destroyArgs());
  for (const node of ['node1', 'node2'] as const) await assertClean(node);
  assert.deepEqual(savedOn('node1'), []);
});

test('the sender is killed in the middle of the first pass: the instance runs on, nothing there looks whole, and the next try goes well', async () => {
  const { sum } = await bootWithData(300);
  const lost = ask('node1', 'migrate_disk_and_power_off', leaveArgs('node2'), 30);
  await halfWay();
  await restart('node1');
  await lost;

  assert.equal(await sh('node1', 'echo up'), 'up');
  const [id = ''] = incoming('node2');
  assert.equal(existsSync(join(worldOf('node2').poolDir, 'incoming', id, 'state.json')), false);
  assert.deepEqual(savedOn('node1'), []);
  const told = await call('node1', 'migrate_disk_and_power_off', leaveArgs('node2'));
  await call('node2', 'finish_migration', finishArgs(told));
  await assertMoved(sum);
});

test('the receiver is killed in the middle of the first pass: the last one brings what is missing', async () => {
  const { sum } = await bootWithData(300);
  const leaving = call('node1', 'migrate_disk_and_power_off', leaveArgs('node2'));
  await halfWay();
  await restart('node2');
  const told = await leaving;

  assert.match(agents.get('node1')?.log() ?? '', /first pass of its root did not arrive/);
  await call('node2', 'finish_migration', finishArgs(told));
  await assertMoved(sum);
});

test('the sender is killed in the middle: when it is back, the receiver goes on, and the move ends well', async () => {
  const { sum } = await bootWithData(300);
  const told = await call('node1', 'migrate_disk_and_power_off', leaveArgs('node2'));
  await restart('node1');
  const finishing = call('node2', 'finish_migration', finishArgs(told));
  await halfWay();
  await restart('node1');

  await finishing;

  assert.match(agents.get('node2')?.log() ?? '', /was cut off, it goes on/);
  await assertMoved(sum);
});

test('the receiver is killed in the middle: asked again it goes on where it was', async () => {
  const { sum } = await bootWithData(300);
  const told = await call('node1', 'migrate_disk_and_power_off', leaveArgs('node2'));
  await restart('node1');
  const lost = ask('node2', 'finish_migration', finishArgs(told), 20);
  await halfWay();
  await restart('node2');

  await call('node2', 'finish_migration', finishArgs(told));

  await lost;
  await assertMoved(sum);
});

test('the source is killed when it has stopped: it is started there again, and the first pass is forgotten by none but the next', async () => {
  const { sum } = await bootWithData(8);
  await call('node1', 'migrate_disk_and_power_off', leaveArgs('node2'));
  await restart('node1');

  await call('node1', 'power_on', { instance: instance(), ...common() });

  assert.equal(await sh('node1', 'sha256sum /root/big'), sum);
  assert.deepEqual(savedOn('node1'), []);
  const told = await call('node1', 'migrate_disk_and_power_off', leaveArgs('node2'));
  await call('node2', 'finish_migration', finishArgs(told));
  await confirm();
  assert.equal(await sh('node2', 'sha256sum /root/big'), sum);
  await call('node2', 'destroy', destroyArgs());
  for (const node of ['node1', 'node2'] as const) await assertClean(node);
});

test('a move that is taken back: the source is as it was, and nothing of it is at the other host', async () => {
  const { sum } = await bootWithData(8);
  const told = await call('node1', 'migrate_disk_and_power_off', leaveArgs('node2'));
  await call('node2', 'finish_migration', finishArgs(told));
  await call('node2', 'destroy', { ...destroyArgs(), instance: instance('resize_reverting') });
  await call('node1', 'finish_revert_migration', {
    ...common(),
    instance: instance(),
    migration: migration('node1', 'node2'),
    power_on: true,
  });
  assert.equal(await sh('node1', `sha256sum /root/big; cat /mnt/${VOLUME}/hello | head -1`), `${sum}\nfrom cinder`);
  await assertClean('node2');
  await call('node1', 'destroy', destroyArgs());
  await assertClean('node1');
});
