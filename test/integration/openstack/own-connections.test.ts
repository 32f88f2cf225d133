/** What connects and disconnects a volume of this host's own, and tells Cinder of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secrets } from '../../../src/engine/secrets.ts';
import type { Connections } from '../../../src/engine/volume-ports.ts';
import { Cinder } from '../../../src/openstack/cinder.ts';
import { asOwn, ownConnections } from '../../../src/openstack/own-connections.ts';
import { failure, logInto, soon } from './client.ts';
import { attachmentId, connection, makeRig, volumeId } from './own-rig.ts';
import type { Asked } from './replay.ts';

function inner(did: string[]): Connections {
  return {
    isOwn: () => false,
    connect: async (_, { secrets }) => {
      did.push(`connect ${secrets === undefined ? 'without' : 'with'} secrets`);
      return { kind: 'file', path: '/x' };
    },
    find: async () => undefined,
    disconnect: async () => void did.push('disconnect'),
    extend: async () => 0,
  };
}

test('Cinder is told after the volume is here, and after it is gone; what Nova connected is none of ours', async () => {
  await using rig = await makeRig();
  const did: string[] = [];
  const cinder = async () => {
    did.push('cinder');
    return new Cinder(rig.client.session);
  };
  const wrapped = ownConnections({ connections: inner(did), cinder, read: async () => ({ secrets: new Secrets() }) });
  const own = asOwn(connection, attachmentId ?? '');

  await wrapped.connect(connection, { secrets: new Secrets() });
  await wrapped.disconnect(connection, {});
  assert.deepEqual(did.splice(0), ['connect with secrets', 'disconnect']);
  await wrapped.connect(own, { secrets: new Secrets() });
  await wrapped.disconnect(own, {});
  assert.deepEqual(did, ['connect with secrets', 'cinder', 'disconnect', 'cinder']);
  assert.deepEqual(rig.did, ['POST', 'DELETE']);
});

test('after a reboot secrets are asked for again, and where Cinder is away it is tried without', async () => {
  let away = false;
  await using rig = await makeRig(({ path }) => (away && path.includes('/attachments/') ? { status: 500 } : undefined));
  const did: string[] = [];
  const wrapped = ownConnections({
    connections: inner(did),
    cinder: async () => new Cinder(rig.client.session),
    read: async () => ({ secrets: new Secrets({ a: 'b' }) }),
    log: logInto(rig.client.lines),
  });
  const own = asOwn(connection, attachmentId ?? '');

  await wrapped.connect(own, {});
  away = true;
  await wrapped.connect(own, {});

  assert.deepEqual(did, ['connect with secrets', 'connect without secrets']);
  assert.ok(rig.client.lines.some(line => line.startsWith('Cinder does not tell how')));
});

test('after a reboot a volume whose attachment Cinder has no more is not connected: it may be elsewhere', async () => {
  await using rig = await makeRig(({ path }) => (path.includes('/attachments/') ? { status: 404 } : undefined));
  const did: string[] = [];
  const wrapped = ownConnections({
    connections: inner(did),
    cinder: async () => new Cinder(rig.client.session),
    read: async () => ({ secrets: new Secrets() }),
  });
  const own = asOwn(connection, attachmentId ?? '');

  assert.deepEqual([wrapped.isOwn(own), wrapped.isOwn(connection)], [true, false]);
  await failure(wrapped.connect(own, {}), 'SV_OPENSTACK_NOT_FOUND');

  assert.deepEqual(did, []);
});

test('a volume that this host attached for itself is made larger at Cinder first, in whole GiB and never twice; others are not touched', async () => {
  let size = 1;
  const asked: string[] = [];
  const isVolume = ({ path }: Asked) => path.includes(`/volumes/${volumeId}`);
  await using rig = await makeRig(request => {
    if (!isVolume(request)) return undefined;
    asked.push(request.method);
    if (request.method === 'POST') {
      size = 3;
      return { status: 202, body: '' };
    }
    return { status: 200, body: JSON.stringify({ volume: { id: volumeId, status: 'in-use', size } }) };
  });
  const own = asOwn(connection, attachmentId ?? '');

  await rig.volumes.enlarge(connection, 5 * 2 ** 30, soon());
  assert.deepEqual(asked, []);
  await rig.volumes.enlarge(own, 2 * 2 ** 30 + 1, soon());
  assert.deepEqual(asked, ['GET', 'POST', 'GET']);
  await rig.volumes.enlarge(own, 3 * 2 ** 30, soon());
  assert.deepEqual(asked.slice(3), ['GET']);
});
