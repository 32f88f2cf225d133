import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { statx } from '../../../src/kernel/statx.ts';
import { assertHostUnchanged, type HostState, hostState } from '../../rig/host.ts';
import { type MachineWorld, makeMachineWorld, never, uuidFor } from './machine-world.ts';

let w: MachineWorld;
let before_: HostState;
before(async () => {
  w = await makeMachineWorld();
  before_ = hostState(w.world.dir);
});
after(async () => {
  await assertHostUnchanged(before_);
  await w[Symbol.asyncDispose]();
});

test('a container boots on a snapshot of the template, unprivileged, with the right owners inside and on the host', async () => {
  const name = 'instance-00000001';
  const instance = await w.boot(name, { hostname: 'web-1' });
  const { rootPath = '' } = instance;

  assert.equal(instance.key, uuidFor(name));
  assert.equal(await w.machines.power({ ref: instance.key }, never), 'running');
  const inside = await w.world.lxd.sh(
    name,
    "stat -c '%n %u:%g %a' / /home/app /srv/of-33 /bin/su-box; hostname; id -u",
  );
  assert.equal(inside, '/ 0:0 755\n/home/app 1000:1000 755\n/srv/of-33 33:33 644\n/bin/su-box 0:0 4755\nweb-1\n0');
  const [uid] = instance.idmap;
  assert.equal(statx(`${rootPath}/srv/of-33`).uid, (uid?.hostId ?? 0) + 33);
  const [row = ''] = (await w.world.lxd.sh(name, "grep ' / / ' /proc/self/mountinfo")).split('\n');
  assert.match(row, /nodev/);
  assert.match(row, /idmapped/);
  assert.doesNotMatch(row, /nosuid/);

  await w.unmake(instance.key);
  assert.equal(await w.machines.power({ ref: instance.key }, never), undefined);
  assert.equal(existsSync(rootPath), false);
  assert.deepEqual(w.engine.list(), []);
});
