/** The command line with an agent and without one: the same answers, one engine a state directory, and what a stop undoes. */
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { socketPath } from '../../src/cli/engine-client.ts';
import { umount2 } from '../../src/kernel/mount.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { list } from './ask.ts';
import { CLI, makeWorld, type World } from './world.ts';

let world: World;
let volume: string;
let clean: HostState;

before(async () => {
  world = await makeWorld();
  await world.addTemplate('web', { files: 20 });
  await world.lxd.launch('c1');
  volume = join(world.dir, 'vol.raw');
  writeFileSync(volume, '');
  truncateSync(volume, 16 << 20);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', volume]);
  await (await world.engine())[Symbol.asyncDispose]();
  clean = hostState(world.dir);
});
after(async () => await world?.[Symbol.asyncDispose]());

/** Text and JSON of one command, without what differs from one run to the next: times, loop devices, ids that are given out. */
async function told(args: readonly string[]): Promise<unknown> {
  const { code, stdout, stderr } = await world.cli(...args);
  const plain = stdout
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replace(/\/roots\/[\w-]+/g, '/roots/SECRET')
    .replace(/"(ms|durationMs)":[\d.]+/g, '"$1":0')
    .replace(/\d+\.\d( ms:|(?=, |\n|$))/g, '0.0$1')
    .replace(/\/dev\/loop\d+/g, '/dev/loopN')
    .replace(/"(hostId|start)":\d+/g, '"$1":0')
    .replace(/\b[ug]:0:\d+:/g, 'x:0:N:')
    .replace(/ +\d+s\n/g, ' AGE\n')
    .replace(/ +/g, ' ')
    .replace(/\b\d{6,7}\+/g, 'N+')
    .replace(/\d{6,7}-\d{6,7}/g, 'A-B');
  return { args, code, stdout: plain, stderr };
}

const SESSION: readonly (readonly string[])[] = [
  ['attach', 'nobody', 'web:/mnt/a', '--snapshot'],
  ['attach', 'c1', 'none:/mnt/a', '--snapshot'],
  ['attach', 'c1', 'web:/mnt/a', '--snapshot', '--dry-run'],
  ['attach', 'c1', 'web:/mnt/a', '--snapshot', '--request-id', 'r1'],
  ['attach', 'c1', 'web:/mnt/a', '--snapshot', '--request-id', 'r1'],
  ['attach', 'c1', 'web:/mnt/a', '--snapshot'],
  ['attach', 'c1', 'VOLUME:/mnt/v:ro', '--volume-id', 'v1'],
  ['attach', 'c1', 'VOLUME:/mnt/w'],
  ['list'],
  ['list', 'c1'],
  ['list', 'nobody'],
  ['show', 'c1:/mnt/a'],
  ['show', 'c1'],
  ['show', 'nobody'],
  ['detach', 'c1', '/mnt/a', '--dry-run'],
  ['detach', 'c1', '--volume-id', 'v1'],
  ['detach', 'c1:/mnt/a', '--lazy', '--dry-run'],
  ['detach', 'c1:/mnt/a'],
  ['detach', 'c1', '/mnt/a'],
  ['attach', 'c1', 'web:/mnt/a', '--snapshot', '--dry-run'],
  ['spawn', 's1', 'web', '--dry-run'],
  ['spawn', 's1', 'web'],
  ['spawn', 's1', 'web'],
  ['idmap', 'alloc', 'x1', '--dry-run'],
  ['idmap', 'alloc', 'x1'],
  ['idmap', 'alloc', 'x1'],
  ['idmap', 'release', 'x1', '--dry-run'],
  ['idmap', 'release', 'x1'],
  ['idmap', 'release', 'x1'],
  ['idmap', 'release', 's1'],
  ['recover', '--dry-run'],
  ['recover'],
  ['destroy', 's1', '--dry-run'],
  ['destroy', 's1'],
  ['destroy', 'c1', '--dry-run'],
  ['destroy', 'c1', '/mnt/none'],
  ['destroy', 'c1', '/mnt/a'],
  ['destroy', 'c1'],
];

/** The text is made of what the JSON holds: enough of each kind of answer. */
const SHORT_SESSION = SESSION.filter(
  ([command, , ...more]) =>
    ['list', 'show', 'recover'].includes(command ?? '') || more.includes('web:/mnt/a') || command === 'destroy',
);

async function session(json: boolean): Promise<readonly unknown[]> {
  const answers: unknown[] = [];
  for (const args of json ? SESSION : SHORT_SESSION)
    answers.push(await told([...(json ? ['--json'] : []), ...args.map(word => word.replace('VOLUME', volume))]));
  // Everybody's ranges are in it, and others come and go.
  if (json) answers.push((await world.cli('idmap', 'list', '--json')).code);
  return answers;
}

for (const json of [true, false])
  test(`a session of every command is told alike with an agent and without one${json ? ', as JSON' : ''}`, async () => {
    // The request id of the first session is known in the second; it is another one there.
    const alone = await session(json);
    forgetRequests();
    let through: readonly unknown[];
    {
      await using _agent = await world.agent();
      through = await session(json);
    }
    forgetRequests();

    assert.deepEqual(through, alone);
    assert.ok(alone.some(a => JSON.stringify(a).includes('mount_setattr(MOUNT_ATTR_IDMAP)')));
    await assertHostUnchanged(clean);
  });

function forgetRequests(): void {
  using db = new DatabaseSync(join(world.stateDir, 'journal.db'));
  db.exec('DELETE FROM request');
}

describe('one engine a state directory', () => {
  test('a second agent, and a command that does not see the first one’s socket, end with status 4', async () => {
    await using _agent = await world.agent();
    assert.equal(statSync(socketPath(world.runDir)).mode & 0o777, 0o600);
    assert.equal(statSync(world.runDir).mode & 0o022, 0);

    const elsewhere = join(world.dir, 'elsewhere');
    const [second, command, same] = await Promise.all([
      world.cli('serve', '--run-dir', elsewhere),
      world.cli('recover', '--json', '--run-dir', elsewhere),
      world.cli('serve', '--state-dir', join(world.dir, 'other-state')),
    ]);

    for (const { code, stderr } of [second, command, same]) assert.equal(code, 4, stderr);
    assert.match(second.stderr, /^shiftvol: Cannot open the journal .*another shiftvol works on this state directory/m);
    assert.equal(JSON.parse(command.stdout).error.code, 'SV_LOCKED');
    assert.match(same.stderr, /^shiftvol: Cannot listen on .*another agent does/m);
    assert.deepEqual(await list(world), []);
    for (const name of ['elsewhere', 'other-state']) execFileSync('rm', ['-rf', join(world.dir, name)]);
  });

  test('the socket of an agent that was killed is in nobody’s way', async () => {
    const agent = await world.agent();
    await agent.kill('SIGKILL');
    assert.ok(existsSync(socketPath(world.runDir)));

    assert.deepEqual(await world.cli('list', '--json'), { code: 0, stdout: '[]\n', stderr: '' });
    {
      await using _next = await world.agent();
      assert.deepEqual(await list(world), []);
    }
    assert.equal(existsSync(socketPath(world.runDir)), false);
    await assertHostUnchanged(clean);
  });

  test('an agent does not listen where others may write', async () => {
    const open = join(world.dir, 'open');
    mkdirSync(open);
    chmodSync(open, 0o777);

    const { code, stderr } = await world.cli('serve', '--run-dir', open);

    assert.equal(code, 2, stderr);
    assert.match(stderr, /others may write to its directory/);
    execFileSync('rm', ['-r', open]);
  });

  test('what listens there and is no agent is told so', async () => {
    const dir = join(world.dir, 'foreign');
    mkdirSync(dir, { mode: 0o700 });
    const server = createServer(socket => socket.end('SSH-2.0-OpenSSH_9.2\r\n')).listen(socketPath(dir));
    await once(server, 'listening');

    const { code, stdout, stderr } = await world.cli('list', '--json', '--run-dir', dir);

    server.close();
    assert.equal(code, 1, stderr);
    assert.equal(JSON.parse(stdout).error.code, 'SV_AGENT');
    execFileSync('rm', ['-r', dir]);
    await assertHostUnchanged(clean);
  });
});

describe('a state directory', () => {
  /** One of the test's own, gone with it: what fails must not make others fail. */
  const directory = (t: TestContext, name: string, fill: (path: string) => void) => {
    const path = join(world.dir, name);
    mkdirSync(path, { mode: 0o700 });
    t.after(() => rmSync(path, { recursive: true }));
    fill(path);
    return path;
  };

  for (const [what, fill, text] of [
    [
      'with a journal of a newer shiftvol',
      (path: string) => {
        using db = new DatabaseSync(join(path, 'journal.db'));
        db.exec('PRAGMA journal_mode = WAL; PRAGMA user_version = 99');
      },
      /has version 99, .* knows up to \d+ \(run the shiftvol that wrote it/,
    ],
    [
      'whose journal is none',
      (path: string) => writeFileSync(join(path, 'journal.db'), 'not a database\n'.repeat(1000)),
      /Cannot use the journal .*not a database/,
    ],
    [
      'whose journal is a directory',
      (path: string) => mkdirSync(join(path, 'journal.db')),
      /Cannot use the journal .*unable to open/,
    ],
  ] as const)
    test(`${what} is refused, and left as it is`, async t => {
      const path = directory(t, 'bad', fill);
      const before = execFileSync('find', [path, '-name', 'journal.db', '-type', 'f', '-exec', 'sha256sum', '{}', ';']);

      const { code, stdout, stderr } = await world.cli('list', '--json', '--state-dir', path);

      assert.equal(code, 1, stderr);
      assert.equal(JSON.parse(stdout).error.code, 'SV_STORE');
      assert.match(stderr, text);
      assert.deepEqual(
        execFileSync('find', [path, '-name', 'journal.db', '-type', 'f', '-exec', 'sha256sum', '{}', ';']),
        before,
      );
    });

  test('that cannot be made, or looked into, is told, and is no empty list', async () => {
    const file = join(world.dir, 'vol.raw');
    const below = await world.cli('attach', 'c1', 'web:/mnt', '--snapshot', '--state-dir', join(file, 'state'));
    assert.equal(below.code, 1, below.stderr);
    assert.match(below.stderr, /^shiftvol: Cannot use the journal [^\n]*\n$/);

    chmodSync(world.dir, 0o711);
    const other = spawnSync(process.execPath, [CLI, 'list', '--json'], {
      env: world.env,
      encoding: 'utf8',
      uid: 1000,
      gid: 1000,
      cwd: '/',
    });
    chmodSync(world.dir, 0o700);
    assert.equal(other.status, 1, other.stderr);
    assert.match(other.stderr, /Cannot look into the state directory .*run it as root/);
    assert.equal(JSON.parse(other.stdout).error.code, 'SV_STORE');
  });

  for (const [what, yaml, text] of [
    ['no YAML', 'state_dir: [\n', /plugin\.yaml:2: /],
    ['an unknown key', 'host: x\nbus:\n  prefech: 3\n', /plugin\.yaml:3: "bus\.prefech": no such key.*prefetch/],
    ['a wrong value', 'parallel: 8\nid_range_size: many\n', /plugin\.yaml:2: "id_range_size"/],
    ['a relative path', 'pool_dir: pool\n', /plugin\.yaml:1: "pool_dir".*absolute/],
    ['a password in a wrong URL', 'bus:\n  listen: ["redis://u:secret@h"]\n', /plugin\.yaml:2: "bus\.listen/],
  ] as const)
    test(`a configuration with ${what} is told by file, line and key, with status 2`, async () => {
      const file = join(world.dir, 'plugin.yaml');
      writeFileSync(file, yaml);

      const { code, stdout, stderr } = await world.cli('list', '--json', '--config', file);

      assert.equal(code, 2, stderr);
      assert.match(stderr, text);
      assert.equal(JSON.parse(stdout).error.code, 'SV_CONFIG');
      assert.ok(!stderr.includes('secret'));
      execFileSync('rm', [file]);
    });
});

describe('--dry-run', () => {
  /** Prints calls and objects, in a table and as JSON, and does nothing. */
  async function assertPlans(args: readonly string[], ...calls: readonly RegExp[]): Promise<void> {
    const state = hostState(world.dir);
    const table = await world.cli(...args, '--dry-run');
    const { stdout, code } = await world.cli('--json', ...args, '--dry-run');
    assert.deepEqual([table.code, code], [0, 0], `${args.join(' ')}: ${table.stderr}`);
    const plan = JSON.parse(stdout);
    const steps: { step: string; call: string; object: string }[] =
      plan.steps ?? plan.attachments.flatMap((a: { steps: unknown[] }) => a.steps);
    assert.equal(plan.dryRun, true);
    for (const call of calls) {
      assert.match(table.stdout, call, args.join(' '));
      assert.ok(
        steps.some(s => call.test(`${s.call}  ${s.object}`)),
        `${args.join(' ')}: ${call} in ${JSON.stringify(steps)}`,
      );
    }
    await assertHostUnchanged(state);
  }

  test('of templates and pools names tools, files and devices', async () => {
    const tree = join(world.dir, 'tree');
    mkdirSync(tree);
    await assertPlans(
      ['template', 'import', 'new', '--from', tree, '--fs', 'xfs'],
      /mkfs\.xfs +\S+\/work/,
      /tar +\S+\/tree -> /,
      /rename +\S+\/\.import-new -> \S+\/templates\/new/,
    );
    await assertPlans(['template', 'import', 'new', '--from', volume], /fallocate\+write +\S+vol\.raw -> \S+\/image/);
    await assertPlans(
      ['template', 'import', 'new', '--from', 'https://host.invalid/x.qcow2'],
      /GET +https:\/\/host\.invalid/,
    );
    await assertPlans(['template', 'remove', 'web'], /rename +\S+\/templates\/web -> /, /rmdir +\S+\/snapshots\/web/);
    await assertPlans(
      ['pool', 'grow', '--size', '30G'],
      /ftruncate +\S+\/pool\.img 32212254720/,
      /ioctl\(LOOP_SET_CAPACITY\)/,
      /xfs_growfs +\S+\/pool/,
    );
    const other = ['--state-dir', join(world.dir, 'new-state')];
    await assertPlans(
      ['pool', 'create', '--size', '1G', ...other],
      /mkfs\.xfs +\S+\/pool\.img/,
      /move_mount +\S+\/new-state\/pool/,
    );
    execFileSync('rmdir', [tree]);
  });

  test('of recover names what it would mount, unmount and remove', async () => {
    const spawned = await world.cli('spawn', 's1', 'web', '--json');
    const [{ hostPath, image }] = JSON.parse(spawned.stdout).attachments;
    umount2(hostPath, { lazy: false });

    await assertPlans(['recover'], new RegExp(`move_mount +${hostPath}`), new RegExp(`LOOP_CONFIGURE\\) +${image}`));

    assert.match((await world.cli('recover')).stdout, /^mounted again +s1:\/ \(was attached\)/);
    assert.equal((await world.cli('destroy', 's1')).code, 0);
    await assertHostUnchanged(clean);
  });
});

/** Whether a process has a handler for a signal: before that it ends without a word. */
function hears(pid: number | undefined, signal: 'SIGINT'): boolean {
  const caught = /^SigCgt:\t([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '0';
  return (BigInt(`0x${caught}`) & (1n << BigInt(constants.signals[signal] - 1))) !== 0n;
}

describe('Control-C', () => {
  /** LXD stands still, so that the command waits for it. */
  async function interrupt(...args: readonly string[]): Promise<{ code: number | null; stderr: string; ms: number }> {
    process.kill(world.lxd.pid, 'SIGSTOP');
    try {
      const child = spawn(process.execPath, [CLI, ...args], { env: world.env, stdio: ['ignore', 'ignore', 'pipe'] });
      let stderr = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
      });
      while (child.exitCode === null && !hears(child.pid, 'SIGINT')) await sleep(20);
      await sleep(1500);
      assert.equal(child.exitCode, null, stderr);
      const started = performance.now();
      child.kill('SIGINT');
      const [code] = await once(child, 'close');
      return { code, stderr, ms: performance.now() - started };
    } finally {
      process.kill(world.lxd.pid, 'SIGCONT');
    }
  }

  test('ends a command that waits, with status 1, and nothing is left of it', async () => {
    const { code, stderr, ms } = await interrupt('attach', 'c1', 'web:/mnt/a', '--snapshot');

    assert.match(stderr, /^shiftvol: Cancelled by a signal[^\n]*\n$/);
    assert.equal(code, 1);
    assert.ok(ms < 3000, `${ms} ms`);
    await assertHostUnchanged(clean);
  });

  test('is told to the agent, which undoes what it had begun', async () => {
    await using agent = await world.agent();

    const { code, stderr } = await interrupt('attach', 'c1', 'web:/mnt/a', '--snapshot');

    assert.match(stderr, /^shiftvol: Cancelled: the agent undoes what it had begun[^\n]*\n$/);
    assert.equal(code, 1);
    assert.deepEqual(await list(world), [], agent.log());
    await assertHostUnchanged(clean);
  });
});

test('-v shows each step as it is done', async () => {
  const { code, stdout, stderr } = await world.cli('attach', 'c1', 'web:/mnt/a', '--snapshot', '-v');
  assert.equal(code, 0, stderr);
  assert.match(stderr, /DEBUG shiftvol .*step "mount" done/);
  assert.match(stdout, /^attached +c1:\/mnt\/a/);

  const failed = await world.cli('attach', 'nobody', 'web:/mnt/a', '--snapshot', '--verbose');
  assert.match(failed.stderr, /^shiftvol: Cannot find instance [^\n]*\n.*\n? +at /s);
  await world.cli('destroy', 'c1');
  await assertHostUnchanged(clean);
});
