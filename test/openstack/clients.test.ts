/** The clients against real Keystone, Glance, Cinder and Barbican: those of OS_*, else the small cloud. */
import assert from 'node:assert/strict';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { Barbican } from '../../src/openstack/barbican.ts';
import { Cinder } from '../../src/openstack/cinder.ts';
import { findCloud } from '../../src/openstack/cloud.ts';
import { Glance } from '../../src/openstack/glance.ts';
import { CloudSession } from '../../src/openstack/session.ts';
import { CONNECTOR, makeImage, removeImage, volumeIs } from '../integration/openstack/demo.ts';
import { Cloud } from '../rig/cloud/cloud.ts';
import { makeCredential, Prepared } from './prepare.ts';

const signal = AbortSignal.timeout(600_000);
let prepared: Prepared;
before(async () => {
  const env = process.env['OS_AUTH_URL'] ? process.env : (await Cloud.up()).credentials;
  prepared = await Prepared.make(env, signal);
});
after(async () => await prepared[Symbol.asyncDispose]());

const SIZE = 40 * 2 ** 20;

test('a key of an encrypted volume comes from Barbican as it is; one that is not there is none', async () => {
  const barbican = new Barbican(prepared.session);
  const key = randomBytes(32);
  const json = {
    name: 'shiftvol-test',
    secret_type: 'symmetric',
    algorithm: 'aes',
    bit_length: 256,
    payload: key.toString('base64'),
    payload_content_type: 'application/octet-stream',
    payload_content_encoding: 'base64',
  };
  const { body } = await prepared.session.request('key-manager', { method: 'POST', path: '/secrets', json }, signal);
  const { secret_ref } = z.object({ secret_ref: z.string() }).parse(body);
  const id = secret_ref.split('/').at(-1) ?? '';
  try {
    assert.deepEqual(await barbican.key(id, signal), key);
  } finally {
    await prepared.session.request('key-manager', { method: 'DELETE', path: `/secrets/${id}` }, signal);
  }
  assert.equal(await barbican.key(id, signal), undefined);
  assert.equal(await barbican.key(randomUUID(), signal), undefined);
});

test('40 MiB go up to Glance and come down as they were, in one piece and from the middle', async () => {
  const glance = new Glance(prepared.session);
  const chunks = Array.from({ length: 40 }, () => randomBytes(2 ** 20));
  const sent = createHash('sha512');
  for (const chunk of chunks) sent.update(chunk);

  const json = { name: 'shiftvol-test', disk_format: 'raw', container_format: 'bare', os_distro: 'x' };
  const id = await makeImage(prepared.session, json, signal);
  try {
    const body = Readable.from(chunks, { objectMode: false });
    const image = await glance.uploadInto(id, body, signal, { sizeBytes: SIZE });
    const hex = sent.digest('hex');
    assert.deepEqual(image.digest, { algorithm: 'sha512', hex });
    assert.equal(image.sizeBytes, SIZE);
    assert.equal((await glance.image('shiftvol-test', signal)).id, image.id);
    const came = createHash('sha512');
    for await (const chunk of await glance.download(image, signal)) came.update(chunk);
    assert.equal(came.digest('hex'), hex);
  } finally {
    await removeImage(prepared.session, id, signal);
  }
});

test('an upload that breaks off leaves an image without data', async () => {
  const glance = new Glance(prepared.session);
  const broken = Readable.from(
    (async function* () {
      for (let i = 0; i < 20; i++) yield randomBytes(2 ** 18);
      throw new Error('the disk is gone');
    })(),
    { objectMode: false },
  );
  const json = { name: 'shiftvol-broken', disk_format: 'raw', container_format: 'bare' };
  const id = await makeImage(prepared.session, json, signal);
  try {
    await assert.rejects(glance.uploadInto(id, broken, signal), /the disk is gone/);

    assert.notEqual((await glance.image(id, signal)).status, 'active');
  } finally {
    await removeImage(prepared.session, id, signal);
  }
});

test('an image that somebody else made is filled', async () => {
  const glance = new Glance(prepared.session);
  const json = { name: 'shiftvol-queued', disk_format: 'raw', container_format: 'bare' };
  const id = await makeImage(prepared.session, json, signal);
  try {
    const image = await glance.uploadInto(id, Readable.from([Buffer.from('data')], { objectMode: false }), signal);
    assert.equal(image.status, 'active');
  } finally {
    await removeImage(prepared.session, id, signal);
  }
});

test('a volume is attached to this host and let go of, twice over; a second host is refused', async () => {
  const cinder = new Cinder(prepared.session);
  const { id: volumeId } = await cinder.volume('demo-volume', signal);
  for (const mode of ['rw', 'ro'] as const) {
    const { id, connectionInfo } = await cinder.createAttachment({ volumeId, connector: CONNECTOR, mode }, signal);
    try {
      assert.equal(connectionInfo?.driver_volume_type, 'nfs');
      assert.equal((await cinder.attachment(id, signal)).mode, mode);
      await cinder.completeAttachment(id, signal);
      await cinder.completeAttachment(id, signal);
      assert.equal((await volumeIs(cinder, volumeId, 'in-use', signal)).attachments[0]?.host, CONNECTOR.host);
      await assert.rejects(cinder.createAttachment({ volumeId }, signal), { code: 'SV_OPENSTACK_REFUSED' });
    } finally {
      await cinder.deleteAttachment(id, signal);
      await cinder.deleteAttachment(id, signal);
    }
    await volumeIs(cinder, volumeId, 'available', signal);
  }
});

test('a token that somebody gave us is used as it is', async () => {
  const { OS_AUTH_URL, OS_REGION_NAME } = prepared.env;
  const token = await prepared.token(signal);
  using session = new CloudSession(findCloud({ env: { OS_AUTH_URL, OS_REGION_NAME, OS_TOKEN: token } }));

  assert.equal((await new Cinder(session).volume('demo-volume', signal)).sizeGib, 1);

  await prepared.revoke(token);
  using late = new CloudSession(findCloud({ env: { OS_AUTH_URL, OS_REGION_NAME, OS_TOKEN: token } }));
  await assert.rejects(new Cinder(late).volume('demo-volume', signal), { code: 'SV_OPENSTACK_AUTH' });
});

test('an application credential is as good as a password, until it ends', async () => {
  const env = { OS_AUTH_URL: prepared.env['OS_AUTH_URL'], OS_REGION_NAME: prepared.env['OS_REGION_NAME'] };
  await using credential = await makeCredential(prepared, signal);
  const cloud = findCloud({ env: { ...env, ...credential.env } });
  {
    using session = new CloudSession(cloud);
    assert.equal((await new Cinder(session).volume('demo-volume', signal)).sizeGib, 1);
  }
  await credential[Symbol.asyncDispose]();
  using session = new CloudSession(cloud);
  await assert.rejects(new Cinder(session).volume('demo-volume', signal), { code: 'SV_OPENSTACK_AUTH' });
});

test('what Nova attached is refused without a service token, and done with one', async t => {
  const id = await prepared.attachThroughNova(signal);
  if (id === undefined) return t.skip('no host for servers');

  await assert.rejects(new Cinder(prepared.session).deleteAttachment(id, signal), { code: 'SV_OPENSTACK_CONFLICT' });

  const service = findCloud({ env: { ...prepared.env, OS_USERNAME: 'cinder', OS_PROJECT_NAME: 'service' } });
  using session = new CloudSession(prepared.session.cloud, { service });
  await new Cinder(session).deleteAttachment(id, signal);
});
