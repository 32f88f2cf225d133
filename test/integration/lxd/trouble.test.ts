import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LxdRuntime } from '../../../src/container/lxd/runtime.ts';
import type { Instance } from '../../../src/engine/ports.ts';
import { explain, isError } from '../../../src/errors.ts';
import { umount2 } from '../../../src/kernel/mount.ts';
import { type Lxd, startLxd } from '../../rig/lxd.ts';
import { type MappedDir, mappedDir, mountsAt } from './mapped.ts';

let lxd: Lxd;
let runtime: LxdRuntime;
let volume: MappedDir;
before(async () => {
  lxd = await startLxd();
  runtime = new LxdRuntime({ configured: lxd.socketPath });
  volume = mappedDir(100000);
  await lxd.launch('c1');
});
after(async () => {
  runtime[Symbol.dispose]();
  await lxd[Symbol.asyncDispose]();
  volume[Symbol.dispose]();
});

const found = async (ref: string): Promise<Instance> => {
  const instance = await runtime.find({ ref });
  assert.ok(instance);
  return instance;
};
const device = (name: string, target = `/mnt/${name}`) => ({ name, target, hostPath: volume.path, readOnly: false });
const deviceNames = async (name: string) => Object.keys(Object((await lxd.get(name))['devices']));

test('without a server the error says where one was looked for', async () => {
  using nowhere = new LxdRuntime({ env: {}, root: '/nonexistent' });

  await assert.rejects(
    nowhere.find({ ref: 'c1' }),
    error => isError(error, 'SV_RUNTIME') && /snap\/lxd.*incus/.test(error.message) && error.remedy !== undefined,
  );
});

test('a stopped server is an error that names the socket, at once', async () => {
  const c1 = await found('c1');
  await lxd.stopDaemon();
  const started = performance.now();

  await assert.rejects(
    runtime.find({ ref: 'c1' }),
    error => isError(error, 'SV_RUNTIME') && explain(error).includes(lxd.socketPath),
  );
  // Far from the five seconds that a change waits for a server.
  assert.ok(performance.now() - started < 3000);
  using impatient = new LxdRuntime({ configured: lxd.socketPath, patience: { unreachableMs: 300, busyMs: 300 } });
  await assert.rejects(impatient.addDevice(c1, device('sv-1')), error => isError(error, 'SV_RUNTIME'));
  await assert.rejects(impatient.removeDevice({ ref: 'c1' }, 'sv-1'), error => isError(error, 'SV_RUNTIME'));

  await lxd.startDaemon();
  assert.equal((await found('c1')).pid, c1.pid);
});

test('a server that is restarted meanwhile is waited for', async () => {
  const c1 = await found('c1');
  await lxd.stopDaemon();

  const adding = runtime.addDevice(c1, device('sv-1'));
  await sleep(300);
  await lxd.startDaemon();
  await adding;
  assert.deepEqual(await deviceNames('c1'), ['sv-1']);

  await lxd.stopDaemon();
  const removing = runtime.removeDevice({ ref: 'c1' }, 'sv-1');
  await lxd.startDaemon();
  await removing;
  assert.deepEqual(await deviceNames('c1'), []);
});

test('a server that is killed during a change: the change is there once, or the error says what LXD left behind', async () => {
  let c1 = await found('c1');
  for (const ms of [2, 5, 8, 11, 14]) {
    const adding = runtime.addDevice(c1, device('sv-1')).then(
      () => undefined,
      (error: unknown) => error,
    );
    await sleep(ms);
    process.kill(lxd.pid, 'SIGKILL');
    while (lxd.running) await sleep(5);
    await lxd.startDaemon();

    const error = await adding;
    if (error !== undefined) {
      assert.ok(isError(error, 'SV_RUNTIME') && /unmount that path/.test(error.remedy ?? ''), explain(error));
      const [path = ''] = error.message.match(/\/tmp\/\S+(?=:)/) ?? [];
      umount2(path, { lazy: false });
      await runtime.addDevice(c1, device('sv-1'));
    }

    assert.deepEqual(await deviceNames('c1'), ['sv-1']);
    await runtime.removeDevice({ ref: 'c1' }, 'sv-1');
    assert.deepEqual(await deviceNames('c1'), []);
    await lxd.restart('c1'); // LXD may have mounted it inside before it was killed, and does not know
    c1 = await found('c1');
  }
});

test('a container that is just being stopped is waited for', async () => {
  const c1 = await found('c1');
  const stopping = lxd.stop('c1');
  await sleep(30);

  await runtime.addDevice(c1, device('sv-1'));

  await stopping;
  assert.deepEqual(await deviceNames('c1'), ['sv-1']);
  await runtime.removeDevice({ ref: 'c1' }, 'sv-1');
  await lxd.start('c1');
});

test('waiting for a busy container ends with the signal', async () => {
  const c1 = await found('c1');
  await lxd.stopDaemon();
  const stop = new AbortController();
  const adding = runtime.addDevice(c1, device('sv-1'), stop.signal);
  await sleep(100);
  const started = performance.now();

  stop.abort();

  await assert.rejects(adding, { name: 'AbortError' });
  // As above.
  assert.ok(performance.now() - started < 2500);
  await lxd.startDaemon();
  await assert.rejects(runtime.find({ ref: 'c1' }, AbortSignal.abort()), { name: 'AbortError' });
  assert.deepEqual(await deviceNames('c1'), []);
});

test('an addition that is interrupted at any moment is found by the removal that follows', async () => {
  const c1 = await found('c1');
  for (const ms of [0, 1, 2, 4, 6, 9, 12, 16, 20]) {
    const stop = new AbortController();
    const adding = runtime.addDevice(c1, device('sv-1'), stop.signal).catch((error: unknown) => {
      if (!stop.signal.aborted) throw error;
    });
    await sleep(ms);
    stop.abort();
    await adding;

    await runtime.removeDevice({ ref: 'c1' }, 'sv-1');

    assert.deepEqual(await deviceNames('c1'), []);
    assert.equal(await lxd.sh('c1', 'grep -c /mnt/sv-1 /proc/self/mountinfo || true'), '0');
  }
});

test('what LXD cannot mount inside is told in its words, and the device does not stay', async () => {
  await lxd.launch('private');
  await lxd.sh('private', 'mount --make-rprivate /');
  const instance = await found('private');
  const mountsBefore = mountsAt(lxd.dir, volume.path);

  await assert.rejects(
    runtime.addDevice(instance, device('sv-1')),
    error =>
      isError(error, 'SV_RUNTIME') && /forkmount/.test(error.message) && /make-rprivate/.test(error.remedy ?? ''),
  );

  assert.deepEqual(await deviceNames('private'), []);
  assert.deepEqual(mountsAt(lxd.dir, volume.path), mountsBefore);
  await runtime.removeDevice({ ref: 'private' }, 'sv-1');
  await lxd.stop('private');
  await lxd.delete('private');
});

test('a source that is not there is told in LXD’s words, and the device does not stay', async () => {
  const c1 = await found('c1');

  await assert.rejects(
    runtime.addDevice(c1, { ...device('sv-1'), hostPath: '/nonexistent/volume' }),
    error => isError(error, 'SV_RUNTIME') && /Missing source path "\/nonexistent\/volume"/.test(error.message),
  );
  assert.deepEqual(await deviceNames('c1'), []);
});

test('events tell what happens to instances of any project, also after a restart of the server', async () => {
  const stop = new AbortController();
  const heard: string[] = [];
  const reading = (async () => {
    for await (const event of runtime.events(stop.signal))
      heard.push(event.kind === 'connected' ? 'connected' : `${event.action} ${event.project}/${event.name}`);
  })();
  const hear = async (what: string, times = 1) => {
    for (let i = 0; heard.filter(line => line === what).length < times; i++) {
      assert.ok(i < 500, `${what} was not heard: ${heard.join(', ')}`);
      await sleep(20);
    }
  };
  await hear('connected');
  await lxd.createProject('p1');
  await lxd.launch('e1', {}, { project: 'p1' });
  await hear('instance-started p1/e1');

  await lxd.stopDaemon();
  await lxd.startDaemon();
  await hear('connected', 2);
  await lxd.stop('e1', { project: 'p1' });
  await lxd.delete('e1', { project: 'p1' });
  await hear('instance-stopped p1/e1');
  await hear('instance-deleted p1/e1');

  stop.abort();
  await reading;
  await lxd.create('e2');
  assert.ok(!heard.some(line => line.includes('e2')));
});
