/** Volumes and attachments, on answers that a real Cinder gave. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explain } from '../../../src/errors.ts';
import { Cinder } from '../../../src/openstack/cinder.ts';
import { failure, soon, startClient } from './client.ts';
import { readConversation } from './conversation.ts';
import { CONNECTOR } from './demo.ts';

test('a volume is attached and let go of, as Cinder wants it', async () => {
  await using client = await startClient(['volumes']);
  const cinder = new Cinder(client.session);

  const volume = await cinder.volume('demo-volume', soon());
  assert.deepEqual([volume.status, volume.sizeGib, volume.multiattach], ['available', 1, false]);
  const attachment = await cinder.createAttachment({ volumeId: volume.id }, soon());
  assert.deepEqual([attachment.status, attachment.connectionInfo], ['reserved', undefined]);
  const info = await cinder.updateAttachment(attachment.id, CONNECTOR, soon());
  assert.equal(info.driver_volume_type, 'nfs');
  assert.equal(info.serial, volume.id);
  assert.equal(info.data['name'], `volume-${volume.id}`);
  await cinder.completeAttachment(attachment.id, soon());
  assert.deepEqual(
    (await cinder.attachments(volume.id, soon())).map(a => [a.id, a.status]),
    [[attachment.id, 'attached']],
  );
  await cinder.deleteAttachment(attachment.id, soon());

  const versions = client.cloud.asked
    .filter(a => /attachments/.test(a.path))
    .map(a => `${a.method} ${a.headers['openstack-api-version']}`);
  assert.deepEqual(versions, [
    'POST volume 3.27',
    'PUT volume 3.27',
    'POST volume 3.44',
    'GET volume 3.27',
    'DELETE volume 3.27',
  ]);
});

test('a volume that is in use is refused with Cinder’s words', async () => {
  await using client = await startClient(['volumes']);
  const cinder = new Cinder(client.session);
  const { id: volumeId } = await cinder.volume('demo-volume', soon());

  const error = await failure(
    cinder.createAttachment({ volumeId, connector: CONNECTOR }, soon()),
    'SV_OPENSTACK_REFUSED',
  );

  assert.match(error.message, /status must be available .* current status is in-use \(req-/);
});

test('an attachment whose answer is lost is not asked for twice', async () => {
  await using client = await startClient(['volumes'], asked =>
    asked.method === 'POST' && /attachments$/.test(asked.path) ? 'reset' : undefined,
  );
  const cinder = new Cinder(client.session);
  const { id: volumeId } = await cinder.volume('demo-volume', soon());

  await failure(cinder.createAttachment({ volumeId }, soon()), 'SV_OPENSTACK');

  assert.equal(client.cloud.count('POST', /attachments$/), 1);
});

test('an attachment that is gone is let go of', async () => {
  await using client = await startClient(['volumes'], asked =>
    asked.method === 'DELETE' ? { status: 404, body: '{"itemNotFound": {"message": "x"}}' } : undefined,
  );

  await new Cinder(client.session).deleteAttachment('11111111-2222-4333-8444-555555555555', soon());
});

const ofNova = (name: string): string => {
  const asked = readConversation(name).exchanges.find(e => e.method === 'DELETE');
  return asked?.path.split('/').at(-1) ?? '';
};

test('what Nova attached is not let go of behind its back: the error says how it is done', async () => {
  await using client = await startClient(['attachment-of-nova']);

  const error = await failure(
    new Cinder(client.session).deleteAttachment(ofNova('attachment-of-nova'), soon()),
    'SV_OPENSTACK_CONFLICT',
  );

  assert.match(explain(error), /an instance of Nova uses it .*through Nova.*service token/);
});

test('a service token goes along, and Cinder lets a service do it', async () => {
  await using client = await startClient(['attachment-of-nova-service'], undefined, { serviceUser: true });

  await new Cinder(client.session).deleteAttachment(ofNova('attachment-of-nova-service'), soon());

  const headers = client.cloud.asked.at(-1)?.headers ?? {};
  assert.ok(headers['x-service-token'] && headers['x-service-token'] !== headers['x-auth-token']);
});

test('extending waits for its end, and tells when the driver could not', async () => {
  await using client = await startClient(['volumes']);
  const cinder = new Cinder(client.session);
  const { id } = await cinder.volume('demo-volume', soon());
  const extended = readConversation('volumes').exchanges.find(e => JSON.stringify(e.json ?? '').includes('os-extend'));
  assert.deepEqual(extended?.json, { 'os-extend': { new_size: 2 } });

  await using failing = await startClient(['volumes'], asked =>
    asked.method === 'GET' && asked.path.endsWith(id)
      ? { status: 200, body: JSON.stringify({ volume: { id, status: 'error_extending', size: 1 } }) }
      : undefined,
  );
  const error = await failure(new Cinder(failing.session).extend(id, 2, soon()), 'SV_OPENSTACK');
  assert.match(error.message, /it is error_extending/);
});

test('waiting ends when its time is up', async () => {
  const id = 'c3be2786-4165-437c-b2fb-107ef5e9f8be';
  await using client = await startClient(['volumes'], asked =>
    asked.method === 'GET' && asked.path.endsWith(id)
      ? { status: 200, body: JSON.stringify({ volume: { id, status: 'extending', size: 1 } }) }
      : undefined,
  );

  const error = await failure(new Cinder(client.session).extend(id, 2, soon(), { timeoutMs: 1 }), 'SV_TIMEOUT');

  assert.match(error.message, /Cannot extend the volume .* to 2 GiB: it is extending after 1 ms/);
});
