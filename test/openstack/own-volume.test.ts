/** `shiftvol attach c1 cinder:VOLUME:/mnt/data` with a real Cinder and a real container, without Nova; and what is left when it dies. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { umount2 } from '../../src/kernel/mount.ts';
import { Cinder } from '../../src/openstack/cinder.ts';
import { makeWorld, type World } from '../e2e/world.ts';
import { Cloud } from '../rig/cloud/cloud.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { Prepared } from './prepare.ts';

const signal = AbortSignal.timeout(600_000);
const DYING = fileURLToPath(new URL('dying-attach.ts', import.meta.url));
let prepared: Prepared;
let cinder: Cinder;
let world: World;
let config: string;
let volumeId: string;
let clean: HostState;

before(async () => {
  const env = process.env['OS_AUTH_URL'] ? process.env : (await Cloud.up()).credentials;
  prepared = await Prepared.make(env, signal);
  cinder = new Cinder(prepared.session);
  world = await makeWorld();
  Object.assign(world.env, env);
  config = join(world.dir, 'plugin.yaml');
  writeFileSync(config, JSON.stringify({ volumes: { make_filesystem: 'ext4' } }));
  await world.lxd.launch('c1');
  volumeId = (await cinder.volume('demo-volume', signal)).id;
  await (await world.engine())[Symbol.asyncDispose]();
  clean = hostState(world.dir);
});
after(async () => {
  await world?.[Symbol.asyncDispose]();
  await prepared?.[Symbol.asyncDispose]();
});

type Told = { readonly code: number; readonly answer: Record<string, unknown>; readonly stderr: string };

async function ask(...args: readonly string[]): Promise<Told> {
  const { code, stdout, stderr } = await world.cli('--json', '--config', config, ...args);
  return { code, answer: JSON.parse(stdout.trim() || 'null'), stderr };
}

async function asked(...args: readonly string[]): Promise<Told['answer']> {
  const { code, answer, stderr } = await ask(...args);
  assert.equal(code, 0, stderr);
  return answer;
}

const ATTACH = ['attach', 'c1', 'cinder:demo-volume:/mnt/data'] as const;
const notes = (): readonly string[] => {
  try {
    return readdirSync(join(world.stateDir, 'cinder'));
  } catch {
    return []; // it is made with the first
  }
};

/** Nothing of it anywhere. */
async function assertNothing(): Promise<void> {
  assert.deepEqual(await asked('list'), []);
  assert.deepEqual(notes(), []);
  assert.deepEqual(await cinder.attachments(volumeId, signal), []);
  assert.equal((await cinder.volume(volumeId, signal)).status, 'available');
  await assertHostUnchanged(clean);
}

function dieAt(pattern: string): void {
  const { signal: by, stderr } = spawnSync(process.execPath, [DYING, config, pattern, 'demo-volume'], {
    env: world.env,
    encoding: 'utf8',
  });
  assert.equal(by, 'SIGKILL', stderr);
}

test('a dry run says what would be done, and does nothing', async () => {
  const answer = await asked(...ATTACH, '--dry-run');

  const steps = (answer['steps'] as { step: string; object: string }[]).map(s => s.step);
  assert.deepEqual(steps.slice(0, 3), ['export', 'connect', 'device']);
  await assertNothing();
});

test('a volume is in the container with its owners, and in use by this host for Cinder; a detach lets go of it', async () => {
  const first = await asked(...ATTACH, '--request-id', 'req-11111111-2222-4333-8444-555555555555');
  assert.equal(first['changed'], true);
  const { stdout } = await world.lxd.exec('c1', ['stat', '-c', '%u:%g', '/mnt/data']);
  assert.equal(stdout.trim(), '0:0');
  await world.lxd.exec('c1', ['touch', '/mnt/data/mine']);
  const { status, attachments } = await cinder.volume(volumeId, signal);
  assert.deepEqual([status, attachments.map(a => a.host)], ['in-use', ['node1']]);
  assert.deepEqual(notes(), []);

  assert.equal((await asked(...ATTACH))['changed'], false);
  assert.equal((await cinder.attachments(volumeId, signal)).length, 1);
  assert.equal((await ask('attach', 'c1', 'cinder:demo-volume:/mnt/other')).code, 4);

  await asked('detach', 'c1', '--volume-id', volumeId);
  await assertNothing();
});

test('what was written is there again, also after the mount is gone as after a reboot', async () => {
  await asked(...ATTACH);
  const [attachment] = (await asked('list')) as unknown as { hostPath: string; source: object }[];
  assert.doesNotMatch(JSON.stringify(attachment), /password|secret|token/);
  const { stdout } = await world.lxd.exec('c1', ['ls', '/mnt/data']);
  assert.match(stdout, /mine/);

  await world.lxd.stop('c1');
  umount2(attachment?.hostPath ?? '', { lazy: false });
  const { attachments } = (await asked('recover')) as { attachments: { did: string }[] };
  assert.deepEqual(
    attachments.map(a => a.did),
    ['mounted again'],
  );
  await world.lxd.start('c1');
  assert.match((await world.lxd.exec('c1', ['ls', '/mnt/data'])).stdout, /mine/);

  await asked('destroy', 'c1');
  await assertNothing();
});

test('where there is no such instance nothing stays at Cinder', async () => {
  const { code, stderr } = await ask('attach', 'nobody', 'cinder:demo-volume:/mnt/data');

  assert.equal(code, 3, stderr);
  await assertNothing();
});

test('a volume that is not there, and one that somebody else has, are told', async () => {
  assert.equal((await ask('attach', 'c1', 'cinder:no-such:/mnt/data')).code, 3);
  const { id } = await cinder.createAttachment({ volumeId }, signal);
  try {
    const { code, stderr } = await ask(...ATTACH);
    assert.equal(code, 2);
    assert.match(stderr, /Cannot attach the volume .*status must be available/);
  } finally {
    await cinder.deleteAttachment(id, signal);
  }
  await assertNothing();
});

test('killed before Cinder’s answer is noted: recover tells of it, and leaves it to the operator', async () => {
  dieAt('POST .*/attachments: 200');
  const [there] = await cinder.attachments(volumeId, signal);
  assert.equal(there?.status, 'reserved');

  const { leftovers } = (await asked('recover')) as { leftovers: { kind: string; what: string }[] };
  assert.deepEqual(
    leftovers.map(l => [l.kind, l.what.includes(there.id)]),
    [['attachment', true]],
  );

  await cinder.deleteAttachment(there.id, signal);
  assert.deepEqual((await asked('recover'))['leftovers'], []);
  await assertNothing();
});

for (const [when, pattern] of [
  ['after the export', 'PUT .*/attachments/.*: 200'],
  ['when the engine has connected it', 'POST .*/action: 204'],
] as const)
  test(`killed ${when}: recover lets go of it`, async () => {
    dieAt(pattern);
    assert.equal((await cinder.attachments(volumeId, signal)).length, 1);

    assert.deepEqual((await asked('recover'))['leftovers'], []);

    await assertNothing();
  });

test('killed, and asked for again: it is attached', async () => {
  dieAt('POST .*/action: 204');

  await asked(...ATTACH);

  assert.equal((await cinder.attachments(volumeId, signal)).length, 1);
  await asked('detach', 'c1', '/mnt/data');
  await assertNothing();
});

test('Cinder that is away at the detach is told later', async () => {
  await asked(...ATTACH);
  const { OS_AUTH_URL } = world.env;
  world.env['OS_AUTH_URL'] = 'http://127.0.0.1:1/v3';
  const { code, stderr } = await ask('detach', 'c1', '/mnt/data');
  world.env['OS_AUTH_URL'] = OS_AUTH_URL;

  assert.equal(code, 1);
  assert.match(stderr, /does not answer/);
  assert.equal((await world.lxd.exec('c1', ['grep', '-q', ' /mnt/data ', '/proc/mounts'])).code, 1);
  const { attachments } = (await asked('recover')) as { attachments: { did: string }[] };
  assert.deepEqual(
    attachments.map(a => a.did),
    ['finished'],
  );
  await assertNothing();
});

test('the agent does the same', async () => {
  {
    await using _agent = await world.agent(JSON.stringify({ volumes: { make_filesystem: 'ext4' } }));
    await asked(...ATTACH);
    assert.match((await world.lxd.exec('c1', ['ls', '/mnt/data'])).stdout, /mine/);
    await asked('detach', 'c1', '/mnt/data');
  }
  await assertNothing();
});
