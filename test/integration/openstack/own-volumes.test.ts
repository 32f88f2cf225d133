/** Attachments of this host's own: what is asked of Cinder in which order, and what is left where it goes wrong. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { AttachCommand, Attachment, Command, Connection } from '../../../src/engine/model.ts';
import { Secrets } from '../../../src/engine/secrets.ts';
import type { Connections, VolumeHost } from '../../../src/engine/volume-ports.ts';
import { ShiftvolError } from '../../../src/errors.ts';
import { Barbican } from '../../../src/openstack/barbican.ts';
import { Cinder } from '../../../src/openstack/cinder.ts';
import { asOwn, ownAttachment, ownConnections } from '../../../src/openstack/own-connections.ts';
import { OwnNotes } from '../../../src/openstack/own-notes.ts';
import { OwnVolumes } from '../../../src/openstack/own-volumes.ts';
import { CloudSession } from '../../../src/openstack/session.ts';
import { type Client, failure, logInto, soon, startClient } from './client.ts';
import { readConversation } from './conversation.ts';
import { CONNECTOR } from './demo.ts';
import type { Asked, MakeTrouble, Trouble } from './replay.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-own-'));
after(() => rmSync(dir, { recursive: true }));

const reserved = readConversation('volumes').exchanges.find(
  e => e.method === 'POST' && e.path.endsWith('/attachments'),
);
const RESERVED: Trouble = { status: 200, body: reserved?.answer.text ?? '' };
const { id: attachmentId, volume_id: volumeId } = JSON.parse(RESERVED.body ?? '').attachment as Record<string, string>;
const isReserve = ({ method, path }: Asked): boolean => method === 'POST' && path.endsWith('/attachments');

const connection: Connection = {
  type: 'nfs',
  volumeId: volumeId ?? '',
  name: 'nfs-volume',
  kind: 'file',
  readOnly: false,
  facts: { share: 'x' },
};
const COMMAND = {
  action: 'attach',
  instance: { ref: 'c1' },
  target: '/mnt/data',
  readOnly: false,
  volume: 'demo-volume',
} as const;

type Rig = AsyncDisposable & {
  readonly client: Client;
  readonly volumes: OwnVolumes;
  readonly notes: () => readonly string[];
  readonly did: readonly string[];
  /** Another run of the agent. */
  restarted(): OwnVolumes;
};

let rigs = 0;
async function makeRig(trouble: MakeTrouble = () => undefined): Promise<Rig> {
  const client = await startClient(
    ['volumes'],
    (asked, times) => trouble(asked, times) ?? (isReserve(asked) ? RESERVED : undefined),
  );
  const directory = join(dir, String(++rigs));
  const make = () =>
    new OwnVolumes({
      notes: new OwnNotes(directory),
      cinder: async () => new Cinder(client.session),
      connector: async () => CONNECTOR,
      read: async () => ({ connection, secrets: new Secrets({ key: 'hidden-secret' }) }),
      log: logInto(client.lines),
    });
  return {
    client,
    volumes: make(),
    restarted: make,
    notes: () => {
      try {
        return readdirSync(directory);
      } catch {
        return [];
      }
    },
    get did() {
      return client.cloud.asked.filter(a => /attachments/.test(a.path)).map(a => a.method);
    },
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  };
}

/** An engine that attaches, or does not. */
function host(execute?: () => never): VolumeHost & { readonly commands: AttachCommand[] } {
  const commands: AttachCommand[] = [];
  const attachments: Attachment[] = [];
  return {
    commands,
    list: () => attachments,
    recover: async () => assert.fail('nothing is unfinished'),
    preview: async () => assert.fail('nobody asked'),
    execute: async (command: Command) => {
      execute?.();
      assert.equal(command.action, 'attach');
      commands.push(command);
      const status = { state: 'attached', device: '/dev/loop0', fsType: 'ext4', attachedAt: '' } as const;
      // Of a plan nothing else is looked at.
      attachments.push({
        plan: { source: command.source } as Attachment['plan'],
        status,
        createdAt: '',
        updatedAt: '',
      });
      return { action: 'attach', changed: true, attachments, durationMs: 1, steps: [] };
    },
  };
}

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
  const directory = join(dir, String(rigs));
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
  const note = new OwnNotes(join(dir, String(rigs)));
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
