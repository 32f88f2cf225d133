import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { after, test } from 'node:test';
import { instanceEvent } from '../../../../src/container/lxd/events.ts';
import { monitoredInit } from '../../../../src/container/lxd/init-pid.ts';
import { findSocket } from '../../../../src/container/lxd/socket.ts';
import { maskedFrame, readFrame } from '../../../../src/container/lxd/websocket.ts';
import { isError } from '../../../../src/errors.ts';

const root = mkdtempSync('/tmp/shiftvol-unit-');
after(() => rmSync(root, { recursive: true }));

async function listen(path: string): Promise<AsyncDisposable> {
  mkdirSync(dirname(path), { recursive: true });
  const server = createServer();
  await new Promise<void>(resolve => server.listen(path, resolve));
  return {
    async [Symbol.asyncDispose]() {
      await new Promise(resolve => server.close(resolve));
    },
  };
}

test('the socket is the configured one, then the environment’s, then the first of the usual places', async () => {
  await using _1 = await listen(`${root}/var/lib/incus/unix.socket`);
  assert.equal(await findSocket({ root, env: {} }), `${root}/var/lib/incus/unix.socket`);
  await using _2 = await listen(`${root}/var/lib/lxd/unix.socket`);
  assert.equal(await findSocket({ root, env: {} }), `${root}/var/lib/lxd/unix.socket`);

  await using _3 = await listen(`${root}/mine/unix.socket`);
  assert.equal(await findSocket({ root, env: { LXD_DIR: `${root}/mine` } }), `${root}/mine/unix.socket`);
  assert.equal(await findSocket({ root, env: { INCUS_DIR: `${root}/mine` } }), `${root}/mine/unix.socket`);
  assert.equal(
    await findSocket({ root, env: { INCUS_SOCKET: `${root}/mine/unix.socket`, LXD_DIR: '/no' } }),
    `${root}/mine/unix.socket`,
  );
  assert.equal(
    await findSocket({ root, configured: `${root}/mine/unix.socket`, env: { LXD_DIR: '/no' } }),
    `${root}/mine/unix.socket`,
  );
});

test('a place that was named is not replaced by another', async () => {
  await using _ = await listen(`${root}/var/lib/lxd/unix.socket`);
  writeFileSync(`${root}/file`, '');

  for (const configured of ['/nonexistent/socket', `${root}/file`, `${root}/file/below`])
    await assert.rejects(
      findSocket({ root, configured, env: {} }),
      e => isError(e, 'SV_RUNTIME') && e.message.includes(configured) && !e.message.includes('incus/unix'),
    );
});

test('an event names what happened to which instance of which project', () => {
  const event = (more: object, source: string, action = 'instance-started') =>
    instanceEvent(
      JSON.stringify({ type: 'lifecycle', timestamp: 't', location: 'none', metadata: { action, source }, ...more }),
      'host1',
    );

  assert.deepEqual(event({}, '/1.0/instances/c1?project=p%2D1'), {
    kind: 'instance',
    action: 'instance-started',
    project: 'p-1',
    name: 'c1',
    at: 't',
  });
  assert.equal(event({ location: 'host1' }, '/1.0/instances/c1')?.kind, 'instance');
  assert.equal(event({ location: 'host2' }, '/1.0/instances/c1'), undefined);
  assert.equal(event({}, '/1.0/instances/c1/snapshots/s'), undefined);
  assert.equal(event({}, '/1.0/networks/c1'), undefined);
  assert.equal(event({ type: 'operation' }, '/1.0/instances/c1'), undefined);
  assert.equal(event({ metadata: null }, '/1.0/instances/c1'), undefined);
});

const frame = (first: number, payload: Buffer, length: Buffer) => Buffer.concat([Buffer.of(first), length, payload]);

test('frames of all three lengths are read when they are complete, and what follows stays', () => {
  const word = Buffer.alloc(2);
  const quad = Buffer.alloc(8);
  word.writeUInt16BE(300);
  quad.writeBigUInt64BE(70_000n);
  for (const [size, length] of [
    [5, Buffer.of(5)],
    [300, Buffer.concat([Buffer.of(126), word])],
    [70_000, Buffer.concat([Buffer.of(127), quad])],
  ] as const) {
    const data = frame(0x81, Buffer.alloc(size, 'x'), length);
    for (const cut of [0, 1, 2, 5, data.length - 1]) assert.equal(readFrame(data.subarray(0, cut)), undefined);
    const read = readFrame(Buffer.concat([data, Buffer.from('next')]));
    assert.equal(read?.payload.length, size);
    assert.equal(read?.bytes, data.length);
    assert.equal(read?.final, true);
    assert.equal(read?.opcode, 1);
  }
  quad.writeBigUInt64BE(2n ** 40n);
  assert.throws(() => readFrame(frame(0x81, Buffer.alloc(0), Buffer.concat([Buffer.of(127), quad]))), /are accepted/);
});

test('our own frames are masked', () => {
  const sent = maskedFrame(10, Buffer.from('ping'));
  const mask = sent.subarray(2, 6);

  assert.equal(sent.readUInt8(0), 0x8a);
  assert.equal(sent.readUInt8(1), 0x84);
  assert.equal(Buffer.from(sent.subarray(6).map((b, i) => b ^ (mask[i % 4] ?? 0))).toString(), 'ping');
});

test('an init is believed only where monitor, title, owner and process id all fit', async () => {
  const proc = `${root}/proc`;
  const cgroup = `${root}/cgroup`;
  const put = (path: string, text: string) => {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  };
  const lookup = (name = 'c1', path = '/lxd/containers') => monitoredInit(path, name, { proc, cgroup });
  assert.equal(await lookup(), undefined);

  put(`${cgroup}/unified/lxc.monitor.c1/cgroup.procs`, '50\n');
  put(`${cgroup}/unified/lxc.monitor.c1-1/cgroup.procs`, '60\n');
  put(`${proc}/50/cmdline`, '[lxc monitor] /other/containers c1\0\0');
  put(`${proc}/60/cmdline`, '[lxc monitor] /lxd/containers c1\0\0');
  put(`${proc}/60/task/60/children`, '61 62 ');
  put(`${proc}/61/status`, 'Name:\thook\nNSpid:\t61\n');
  put(`${proc}/62/status`, 'Name:\tinit\nNSpid:\t62\t1\n');
  assert.equal(await lookup(), process.getuid?.() === 0 ? 62 : undefined);

  put(`${proc}/62/status`, 'Name:\tinit\nNSpid:\t62\t4\t1\n');
  assert.equal(await lookup(), undefined);
  assert.equal(await lookup('c'), undefined);
  assert.equal(await lookup('c1-1'), undefined);
});
