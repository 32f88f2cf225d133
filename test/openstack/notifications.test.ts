/**
 * Without the driver: Nova runs some other one (here its own fake, which makes nothing), and the agent beside it does what the
 * notifications of Nova and Cinder tell of, on containers that somebody else makes.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { list } from '../e2e/ask.ts';
import { makeRootfs } from '../rig/busybox.ts';
import { Cloud } from '../rig/cloud/cloud.ts';
import { ComputeHost } from './host.ts';
import { uploadImages } from './images.ts';
import { type Server, Servers } from './servers.ts';
import { waited } from './waited.ts';

const HOST = 'node3';
const TARGET = '/mnt/data';
const UP_MS = 300_000;

let kept: AsyncDisposable | undefined;
let servers: Servers;
let host: ComputeHost;
let image: string;
let server: Server;
let volume: string;

before(
  async () => {
    await using scope = new AsyncDisposableStack();
    const cloud = await Cloud.up({ hosts: [HOST], computeDriver: 'fake.MediumFakeDriver' });
    const config = {
      rpc: { enabled: false },
      nova: { enabled: false },
      bus: { listen: [cloud.brokerUrl], rebind_ms: 200 },
      bindings: {
        images: [{ image: '*', template: 'busybox' }],
        volumes: [{ volume: '*', template: 'web', target: TARGET }],
      },
    };
    scope.defer(() => cloud.stopCompute(HOST));
    host = scope.use(await ComputeHost.make(cloud, HOST, config));
    await host.world.addTemplate('web', { files: 20 });
    const rootfs = join(host.world.dir, 'rootfs');
    mkdirSync(rootfs);
    await makeRootfs(rootfs);
    await host.world.addTemplate('busybox', { from: rootfs });
    servers = new Servers(cloud.api);
    await cloud.startComputes();
    await servers.flavor('t1', { ramMb: 128, diskGb: 1 });
    image = (await uploadImages(cloud, servers)).raw;
    kept = scope.move();
  },
  { timeout: UP_MS },
);
after(() => kept?.[Symbol.asyncDispose](), { timeout: UP_MS });

test('a boot that Nova tells of has its root file system ready', async () => {
  server = await servers.boot({ name: 'told', image, host: HOST });

  const root = await waited('the root to be there', async () => (await attached()).find(a => a.role === 'root'));
  const [uid] = root.extents;
  assert.ok(uid);
  assert.equal(root.instance, server.id);
  assert.equal(statSync(root.hostPath).uid, uid.hostId);
  // What a runtime's own tooling would do.
  chmodSync(host.world.dir, 0o711);
  const range = { base: uid.hostId, size: uid.count };
  await host.lxd.createOn('told', root.hostPath, range, { 'user.nova_uuid': server.id });
  await host.lxd.start('told');
  assert.equal(await host.lxd.sh('told', "stat -c '%u:%g' / /home/app | xargs"), '0:0 1000:1000');
});

test('a volume that Nova and Cinder attach is there inside, with the right owners', async () => {
  volume = await servers.volume('told');

  await servers.attach(server.id, volume);

  await waited('the volume to be there', async () => (await attached()).some(a => a.target === TARGET));
  assert.equal(await host.lxd.sh('told', `stat -c %u ${TARGET}/d0000/f0`), '1000');
});

test('a volume that is detached is gone inside', async () => {
  await servers.detach(server.id, volume);

  // Not while it is on its way out: its snapshot stays.
  const isGone = async () => (await list(host.world)).every(a => a.target !== TARGET || a.state === 'detached');
  await waited('the volume to be gone', isGone);
  assert.equal(await host.lxd.sh('told', `grep -c ${TARGET} /proc/mounts || true`), '0');
  await servers.deleteVolume(volume);
});

test('a deletion leaves nothing', async () => {
  await host.lxd.stop('told');
  await host.lxd.delete('told');

  await servers.delete(server.id);

  await waited('all to be gone', async () => (await list(host.world)).length === 0);
  assert.deepEqual(readdirSync(join(host.world.runDir, 'roots')), []);
});

const attached = async () => (await list(host.world)).filter(a => a.state === 'attached');
