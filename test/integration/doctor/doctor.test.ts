/** The doctor on this kernel, as a process of its own. Needs root. */
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Check } from '../../../src/doctor/check.ts';
import type { InstanceKey, Plan } from '../../../src/engine/model.ts';
import { attachmentId } from '../../../src/engine/plan.ts';
import { fsId, hostId } from '../../../src/idmap/ids.ts';
import { createPool } from '../../../src/storage/pool.ts';
import { Store } from '../../../src/store/journal.ts';
import { assertHostUnchanged, hostState } from '../../rig/host.ts';
import { startLxd } from '../../rig/lxd.ts';

const CLI = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const base = mkdtempSync(join(tmpdir(), 'shiftvol-doctor-test-'));
chmodSync(base, 0o755);
after(() => rmSync(base, { recursive: true }));

type Found = { readonly ok: boolean; readonly checks: readonly Check[]; readonly code: number };
type Place = { readonly stateDir: string; readonly runDir: string; readonly env?: NodeJS.ProcessEnv };

function place(): Place {
  const dir = mkdtempSync(join(base, 'p-'));
  chmodSync(dir, 0o755);
  return { stateDir: join(dir, 'state'), runDir: join(dir, 'run') };
}

/** What it tries things in has a directory of its own here, so that leftovers are seen. */
async function doctor({ stateDir, runDir, env = {} }: Place, uid?: number): Promise<Found> {
  const scratch = mkdtempSync(join(base, 'tmp-'));
  chmodSync(scratch, 0o777);
  const before = hostState(scratch);
  const { code, stdout } = await new Promise<{ code: number; stdout: string }>((resolve, reject) => {
    const args = [CLI, 'doctor', '--json', '--state-dir', stateDir, '--run-dir', runDir];
    const options = {
      env: { ...process.env, TMPDIR: scratch, NODE_COMPILE_CACHE: join(base, 'cache'), ...env },
      ...(uid === undefined ? {} : { uid, gid: uid }),
    };
    const child = execFile(process.execPath, args, options, (error, stdout, stderr) => {
      if (child.exitCode === null) reject(error);
      else if (stderr !== '') reject(new Error(stderr));
      else resolve({ code: child.exitCode, stdout });
    });
  });
  await assertHostUnchanged(before);
  assert.deepEqual(readdirSync(scratch), []);
  return { ...(JSON.parse(stdout) as Omit<Found, 'code'>), code };
}

const of = ({ checks }: Found, name: string): Check => {
  const found = checks.find(c => c.check === name);
  assert.ok(found, `${name} is among the checks`);
  return found;
};

/** Names, modes and contents of a directory. */
function digest(directory: string): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' }).toSorted()) {
    const stat = statSync(join(directory, name));
    hash.update(`${name} ${stat.mode} ${stat.mtimeMs}\n`);
    if (stat.isFile()) hash.update(readFileSync(join(directory, name)));
  }
  return hash.digest('hex');
}

test('every feature of this kernel is tried, and nothing is made where there was nothing', async () => {
  const where = place();

  const found = await doctor(where);

  const kernel = found.checks.filter(c => c.check.startsWith('kernel.'));
  assert.ok(kernel.length >= 10);
  assert.deepEqual(
    kernel.filter(c => c.ok === false),
    [],
  );
  assert.equal(of(found, 'kernel.idmap-ext4').ok, true);
  assert.equal(of(found, 'kernel.idmap-xfs').ok, true);
  assert.equal(of(found, 'pool.status').ok, false);
  assert.equal(found.ok, false);
  assert.equal(found.code, 5);
  assert.throws(() => statSync(where.stateDir), { code: 'ENOENT' });
  assert.throws(() => statSync(where.runDir), { code: 'ENOENT' });
});

test('without root it tells what it could not try, and that root is needed', async () => {
  const found = await doctor(place(), 65_534);

  assert.equal(of(found, 'host.capabilities').ok, false);
  assert.match(of(found, 'kernel.idmap-xfs').detail, /^not tried/);
  assert.match(of(found, 'journal.readable').detail, /^not tried/);
  assert.equal(of(found, 'kernel.openat2').ok, true);
  assert.equal(found.code, 5);
});

test('what is half done in the journal is told, and the journal is not touched', async () => {
  const where = place();
  {
    using store = new Store({ stateDir: where.stateDir, lockTimeoutMs: 0, outbox: false });
    store.begin(plan(where, 'c1', '/mnt/data'), {});
  }
  const before = digest(where.stateDir);

  const found = await doctor(where);

  assert.match(of(found, 'journal.settled').detail, /c1:\/mnt\/data \(attaching\)/);
  assert.equal(of(found, 'journal.settled').remedy, 'shiftvol recover');
  assert.equal(digest(where.stateDir), before);
});

test('the journal of a shiftvol that works with it is read as well', async () => {
  const where = place();
  using store = new Store({ stateDir: where.stateDir, lockTimeoutMs: 0, outbox: false });
  store.begin(plan(where, 'c1', '/mnt/data'), {});

  const found = await doctor(where);

  assert.match(of(found, 'journal.settled').detail, /c1:\/mnt\/data/);
});

test('a journal that is damaged is told', async () => {
  const where = place();
  mkdirSync(where.stateDir);
  writeFileSync(join(where.stateDir, 'journal.db'), 'this is no database '.repeat(100));

  const found = await doctor(where);

  assert.equal(of(found, 'journal.readable').ok, false);
});

test('mounts, loop devices and snapshots that look ours are told, and left alone', async () => {
  const where = place();
  const poolDir = join(where.stateDir, 'pool');
  const [stray, snapshot] = [join(where.runDir, 'volumes/stray'), join(poolDir, 'snapshots/web/0123456789abcdef')];
  for (const dir of [stray, join(where.runDir, 'roots'), join(poolDir, 'snapshots/web'), join(poolDir, 'templates')])
    mkdirSync(dir, { recursive: true });
  writeFileSync(snapshot, '');
  truncateSync(snapshot, 2 ** 20);
  execFileSync('mount', ['-t', 'tmpfs', 'none', stray]);
  const loop = execFileSync('losetup', ['--find', '--show', snapshot], { encoding: 'utf8' }).trim();
  try {
    const before = hostState(base);

    const found = await doctor(where);

    assert.match(of(found, 'journal.stray-mounts').detail, new RegExp(stray));
    assert.match(of(found, 'journal.stray-loops').detail, new RegExp(`${loop} of ${snapshot}`));
    assert.match(of(found, 'journal.stray-snapshots').detail, new RegExp(snapshot));
    assert.equal(of(found, 'journal.stray-mounts').ok, 'warn');
    assert.deepEqual(hostState(base).mounts, before.mounts);
    assert.deepEqual(hostState(base).loops, before.loops);
    assert.equal(statSync(snapshot).size, 2 ** 20);
  } finally {
    execFileSync('losetup', ['--detach', loop]);
    execFileSync('umount', [stray]);
  }
});

test('with LXD, a pool and the agent this host has all that is needed, and a stray device is told', async () => {
  const where = place();
  const poolDir = join(where.stateDir, 'pool');
  await using lxd = await startLxd();
  await createPool({ stateDir: where.stateDir, poolDir }, { sizeBytes: 8 * 2 ** 30 });
  const env = { SHIFTVOL_LXD_SOCKET: lxd.socketPath };
  const shared = join(base, 'shared');
  mkdirSync(shared, { recursive: true });
  await lxd.create('c1', {}, { devices: { 'sv-0123456789abcdef': { type: 'disk', source: shared, path: '/mnt/x' } } });
  const args = [CLI, 'serve', '--no-bus', '--state-dir', where.stateDir, '--run-dir', where.runDir];
  const agent = spawn(process.execPath, args, { env: { ...process.env, ...env }, stdio: 'ignore' });
  const ended = new Promise(resolve => agent.once('exit', resolve));
  try {
    for (let i = 0; i < 500 && !hasSocket(where.runDir); i++) await sleep(20);

    const found = await doctor({ ...where, env });

    assert.deepEqual(
      found.checks.filter(c => c.ok === false),
      [],
    );
    assert.equal(found.ok, true);
    assert.equal(found.code, 0);
    assert.match(of(found, 'runtime.lxd').detail, /^LXD \d/);
    assert.equal(of(found, 'runtime.idmapped-mounts').ok, true);
    assert.equal(of(found, 'pool.status').ok, true);
    assert.match(of(found, 'agent.running').detail, new RegExp(`^pid ${agent.pid},`));
    assert.match(of(found, 'journal.readable').detail, /by the agent/);
    assert.match(of(found, 'journal.stray-devices').detail, /sv-0123456789abcdef of default\/c1 at \/mnt\/x/);
  } finally {
    agent.kill('SIGTERM');
    await ended;
    execFileSync('umount', [poolDir]);
  }
});

function hasSocket(runDir: string): boolean {
  return statSync(join(runDir, 'agent.sock'), { throwIfNoEntry: false }) !== undefined;
}

function plan({ stateDir, runDir }: Place, instance: string, target: string): Plan {
  const key = instance as InstanceKey;
  const id = attachmentId(key, target);
  const idmap = (['uid', 'gid'] as const).map(kind => ({
    kind,
    fsId: fsId(0),
    hostId: hostId(1_000_000),
    count: 65_536,
  }));
  return {
    id,
    role: 'volume',
    instance: key,
    ref: { ref: instance },
    runtime: 'lxd',
    target,
    source: { kind: 'template', template: 'web' },
    readOnly: false,
    snapshot: `web/${id}`,
    snapshotKept: false,
    image: { kind: 'file', path: join(stateDir, 'pool/snapshots/web', id) },
    idBase: 0,
    idmap,
    instanceMap: idmap,
    mountPath: join(runDir, 'volumes', id),
    deviceName: `sv-${id}`,
    handoff: 'device',
  };
}
