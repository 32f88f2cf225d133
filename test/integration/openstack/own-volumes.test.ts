/** Attachments of this host's own: what is asked of Cinder in which order, and what is left where it goes wrong. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ShiftvolError } from '../../../src/errors.ts';
import { Barbican } from '../../../src/openstack/barbican.ts';
import { asOwn, ownAttachment } from '../../../src/openstack/own-connections.ts';
import { OwnNotes } from '../../../src/openstack/own-notes.ts';
import { CloudSession } from '../../../src/openstack/session.ts';
import { failure, soon, startClient } from './client.ts';
import { attachmentId, COMMAND, connection, host, isReserve, makeRig, RESERVED, volumeId } from './own-rig.ts';
import type { Trouble } from './replay.ts';

test('the volume is reserved, exported, handed to the engine with its attachment’s id, and nothing is noted any more', async () => {
  await using rig = await makeRig();
  const engine = host();

  await rig.volumes.attach(COMMAND, engine, soon());

  assert.deepEqual(rig.did, ['POST', 'PUT']);
  const [command] = engine.commands;
  assert.equal(command?.volumeId, volumeId);
  assert.ok(command?.source.kind === 'connection' && ownAttachment(command.source.connection) === attachmentId);
  assert.equal(command.secrets?.get('key'), 'hidden-secret');
  assert.deepEqual(rig.notes(), []);
});

test('attached already is handed to the engine as it is, and Cinder is not asked for another', async () => {
  await using rig = await makeRig();
  const engine = host();
  await rig.volumes.attach(COMMAND, engine, soon());

  await rig.volumes.attach(COMMAND, engine, soon());

  assert.deepEqual(rig.did, ['POST', 'PUT']);
  assert.deepEqual(engine.commands[1]?.source, engine.commands[0]?.source);
  assert.equal(engine.commands[1]?.secrets, undefined);
});

test('an engine that refuses leaves no attachment, and its error is the one that is told', async () => {
  await using rig = await makeRig();
  const refusing = host(() => {
    throw new ShiftvolError('SV_TARGET_TAKEN', 'taken');
  });

  await failure(rig.volumes.attach(COMMAND, refusing, soon()), 'SV_TARGET_TAKEN');

  assert.deepEqual(rig.did, ['POST', 'PUT', 'DELETE']);
  assert.deepEqual(rig.notes(), []);
});

test('an export that fails leaves no attachment', async () => {
  await using rig = await makeRig(({ method }) => (method === 'PUT' ? { status: 500, body: '{}' } : undefined));

  await failure(rig.volumes.attach(COMMAND, host(), soon()), 'SV_OPENSTACK');

  assert.deepEqual(rig.did, ['POST', 'PUT', 'DELETE']);
  assert.deepEqual(rig.notes(), []);
});

test('what Cinder does not let go of now is let go of by recover', async () => {
  let away = true;
  await using rig = await makeRig(({ method }) => {
    if (method === 'PUT') return { status: 500, body: '{}' };
    return method === 'DELETE' && away ? { status: 503, body: '{}' } : undefined;
  });
  await failure(rig.volumes.attach(COMMAND, host(), soon()), 'SV_OPENSTACK');
  assert.equal(rig.notes().length, 1);
  assert.ok(rig.client.lines.some(line => line.startsWith(`Cannot let go of the attachment ${attachmentId}`)));

  const unseen = await rig.volumes.sweep([], { dryRun: false, signal: soon() });
  assert.deepEqual(
    unseen.map(l => l.kind),
    ['unseen'],
  );
  away = false;
  const dry = await rig.volumes.sweep([], { dryRun: true, signal: soon() });
  assert.match(dry[0]?.what ?? '', /which would be deleted/);
  assert.deepEqual(await rig.volumes.sweep([], { dryRun: false, signal: soon() }), []);

  assert.deepEqual(rig.notes(), []);
});

test('a note that cannot be read is told, and stands in the way of no other', async () => {
  await using rig = await makeRig();
  const directory = rig.directory;
  const notes = new OwnNotes(directory);
  notes.know(notes.begin(volumeId ?? ''), attachmentId ?? '');
  writeFileSync(join(directory, '0.json'), '{"volumeId": 1');

  const left = await rig.restarted().sweep([], { dryRun: false, signal: soon() });

  assert.deepEqual(
    left.map(({ kind, what }) => [kind, what.includes('0.json')]),
    [['unseen', true]],
  );
  assert.deepEqual([rig.did, rig.notes()], [['DELETE'], ['0.json']]);
});

test('an attachment that the journal has is not touched by recover', async () => {
  await using rig = await makeRig();
  const note = new OwnNotes(rig.directory);
  note.know(note.begin(volumeId ?? ''), attachmentId ?? '');

  const left = await rig.restarted().sweep([asOwn(connection, attachmentId ?? '')], { dryRun: false, signal: soon() });

  assert.deepEqual([left, rig.did, rig.notes()], [[], [], []]);
});

test('an answer that was lost is told with what it may have left, until that is gone', async () => {
  let list: Trouble = {
    status: 200,
    body: JSON.stringify({ attachments: [JSON.parse(RESERVED.body ?? '').attachment] }),
  };
  await using rig = await makeRig(asked => {
    if (isReserve(asked)) return 'reset';
    return asked.path.includes('/attachments?') ? list : undefined;
  });
  await failure(rig.volumes.attach(COMMAND, host(), soon()), 'SV_OPENSTACK');

  const told = await rig.restarted().sweep([], { dryRun: false, signal: soon() });
  assert.deepEqual(
    told.map(l => [l.kind, l.what.includes(attachmentId ?? '')]),
    [['attachment', true]],
  );
  list = { status: 200, body: '{"attachments": []}' };
  assert.deepEqual(await rig.restarted().sweep([], { dryRun: false, signal: soon() }), []);

  assert.deepEqual(rig.notes(), []);
  assert.equal(rig.client.cloud.count('DELETE', /./), 0);
});

test('a volume that Cinder refuses to reserve leaves no note', async () => {
  await using rig = await makeRig(asked =>
    isReserve(asked) ? { status: 400, body: '{"badRequest": {"message": "no"}}' } : undefined,
  );

  await failure(rig.volumes.attach(COMMAND, host(), soon()), 'SV_OPENSTACK_REFUSED');

  assert.deepEqual(rig.notes(), []);
});

test('where nothing was begun recover asks nobody', async () => {
  await using rig = await makeRig();

  assert.deepEqual(await rig.volumes.sweep([], { dryRun: false, signal: soon() }), []);

  assert.deepEqual(rig.client.cloud.asked, []);
});

test('a key comes from Barbican as it is; one that is not there is none', async () => {
  await using client = await startClient(['volumes'], ({ path, headers }) => {
    if (path.endsWith('/auth/tokens')) return undefined;
    assert.equal(headers.accept, 'application/octet-stream');
    return path === '/keys/v1/secrets/k1/payload' ? { status: 200, body: 'its bytes' } : { status: 404 };
  });
  const endpoints = new Map([['key_manager', `${client.cloud.origin}/keys`]]);
  using session = new CloudSession({ ...client.session.cloud, endpoints }, { env: {} });

  assert.equal(await new Barbican(session).key('none', soon()), undefined);
  assert.deepEqual(await new Barbican(session).key('k1', soon()), Buffer.from('its bytes'));
});

test('a volume that several may attach is attached for reading only, and else not even reserved', async () => {
  const several = ({ method, path }: { method: string; path: string }) => {
    if (method !== 'GET' || !/\/volumes\//.test(path)) return undefined;
    const name = COMMAND.volume;
    const volume = { id: volumeId, name, status: 'in-use', size: 1, multiattach: true };
    return { status: 200, body: JSON.stringify(path.includes('detail') ? { volumes: [volume] } : { volume }) };
  };
  await using rig = await makeRig(several);

  await failure(rig.volumes.attach(COMMAND, host(), soon()), 'SV_CONNECTION_INFO');

  assert.deepEqual([rig.did, rig.notes()], [[], []]);
  assert.equal((await rig.volumes.attach({ ...COMMAND, readOnly: true }, host(), soon())).changed, true);
});
