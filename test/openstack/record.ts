/**
 * Records test/fixtures/openstack/*.json anew, from a real OpenStack: `node test/openstack/record.ts`, with OS_* of an administrator, or the
 * small cloud of ../rig/cloud. What it makes there it removes.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { Cinder } from '../../src/openstack/cinder.ts';
import { findCloud } from '../../src/openstack/cloud.ts';
import { Glance } from '../../src/openstack/glance.ts';
import { CloudSession } from '../../src/openstack/session.ts';
import { type Conversation, FOLDER } from '../integration/openstack/conversation.ts';
import { CONNECTOR, demoBody, makeImage, removeImage } from '../integration/openstack/demo.ts';
import { Cloud } from '../rig/cloud/cloud.ts';
import { basesOf, makeCredential, Prepared } from './prepare.ts';
import { Recorder } from './recorder.ts';

const signal = AbortSignal.timeout(300_000);

async function main(): Promise<void> {
  const env = process.env['OS_AUTH_URL'] ? process.env : (await Cloud.up()).credentials;
  mkdirSync(FOLDER, { recursive: true });
  await using prepared = await Prepared.make(env, signal);
  await record(prepared, 'images', async session => {
    const glance = new Glance(session);
    const json = { os_distro: 'debian', name: 'demo-image', disk_format: 'raw', container_format: 'bare' };
    const id = await makeImage(session, json, signal);
    const image = await glance.uploadInto(id, Readable.from([demoBody()], { objectMode: false }), signal);
    await glance.image('demo-image', signal);
    for (const range of [undefined, 1000, 3000])
      await (
        await session.open(
          'image',
          {
            method: 'GET',
            path: `/images/${image.id}/file`,
            headers: { accept: 'application/octet-stream', ...(range !== undefined && { range: `bytes=${range}-` }) },
          },
          signal,
        )
      ).body.toArray();
    await refused(glance.image('no-such-image', signal));
    await refused(glance.image('11111111-2222-4333-8444-555555555555', signal));
    await removeImage(session, image.id, signal);
  });
  await record(prepared, 'volumes', async session => {
    const cinder = new Cinder(session);
    const volume = await cinder.volume('demo-volume', signal);
    await cinder.volume(volume.id, signal);
    const { id } = await cinder.createAttachment({ volumeId: volume.id }, signal);
    await cinder.updateAttachment(id, CONNECTOR, signal);
    await cinder.completeAttachment(id, signal);
    await cinder.attachments(volume.id, signal);
    await cinder.attachment(id, signal);
    await refused(cinder.createAttachment({ volumeId: volume.id, connector: CONNECTOR }, signal));
    await cinder.deleteAttachment(id, signal);
    await refused(cinder.attachment(id, signal));
    await cinder.extend(volume.id, 2, signal);
    await refused(cinder.volume('11111111-2222-4333-8444-555555555555', signal));
  });
  await record(prepared, 'microversion', async session => {
    await refused(session.request('volumev3', { method: 'GET', path: '/volumes', microversion: '3.999' }, signal));
  });
  await record(prepared, 'wrong-password', async session => refused(new Glance(session).image('demo-image', signal)), {
    OS_PASSWORD: 'not-the-password',
  });
  await using credential = await makeCredential(prepared, signal);
  await record(
    prepared,
    'application-credential',
    async session => refused(new Glance(session).image('no-such-image', signal)),
    credential.env,
    [credential.secret],
  );
  await credential[Symbol.asyncDispose]();
  await record(
    prepared,
    'application-credential-ended',
    async session => refused(new Glance(session).image('no-such-image', signal)),
    credential.env,
    [credential.secret],
  );
  await record(prepared, 'token-revoked', async (session, recorder) => {
    // Before it was used: services remember for minutes that a token was good.
    await session.projectId(signal);
    await prepared.revoke(recorder.token);
    await refused(new Glance(session).image('no-such-image', signal));
  });
  const attachmentId = await prepared.attachThroughNova(signal);
  if (attachmentId === undefined) return;
  await record(prepared, 'attachment-of-nova', async session =>
    refused(new Cinder(session).deleteAttachment(attachmentId, signal)),
  );
  await record(
    prepared,
    'attachment-of-nova-service',
    async session => await new Cinder(session).deleteAttachment(attachmentId, signal),
    { SERVICE_USER: 'cinder' },
  );
}

/** Runs `work` through a recorder, and writes down what was said. */
async function record(
  prepared: Prepared,
  name: string,
  work: (session: CloudSession, recorder: Recorder) => Promise<void>,
  env: Readonly<Record<string, string | undefined>> = {},
  hidden: readonly string[] = [],
): Promise<void> {
  const replacements = new Map(hidden.map(text => [text, 'hidden-secret']));
  for (const text of [prepared.env['OS_PASSWORD'], env['OS_PASSWORD']])
    if (text !== undefined) replacements.set(`"password":${JSON.stringify(text)}`, '"password":"hidden-secret"');
  await using recorder = await Recorder.start(await basesOf(prepared.env, signal), replacements);
  const own = Object.keys(env).some(key => key.startsWith('OS_APPLICATION'));
  const given = { ...(own ? {} : prepared.env), ...env, OS_AUTH_URL: `${recorder.origin}/identity/v3` };
  const cloud = findCloud({ env: { OS_REGION_NAME: prepared.env['OS_REGION_NAME'], ...given } });
  const { SERVICE_USER: user } = env;
  const service =
    user === undefined ? undefined : findCloud({ env: { ...given, OS_USERNAME: user, OS_PROJECT_NAME: 'service' } });
  using session = new CloudSession(cloud, { service });
  await work(session, recorder);
  const of = 'keystone 22, glance 25, cinder 21, nova 26 of Debian 12';
  const conversation: Conversation = { recorded: new Date().toISOString(), of, exchanges: recorder.exchanges };
  writeFileSync(new URL(`${name}.json`, FOLDER), `${JSON.stringify(conversation, undefined, 1)}\n`);
  console.log(`${name}: ${recorder.exchanges.map(e => e.answer.status).join(' ')}`);
}

/** The refusal is what is recorded. */
async function refused(asked: Promise<unknown>): Promise<void> {
  const outcome = await asked.then(
    () => 'it was not refused',
    (error: Error) => error.message,
  );
  console.log(`  ${outcome}`);
}

await main();
