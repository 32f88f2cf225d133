/**
 * What deploy/README.md says of a host that has something attached: its commands, as they stand there, on a real LXD. In the place of
 * systemd is a script that starts and stops the agent, in the place of the host's directories are the test's. The package's and npm's own
 * commands are run by packages.ts in roots of their own.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { readMountinfo } from '../../../src/mount/mountinfo.ts';
import { CLI, makeWorld, type World } from '../../e2e/world.ts';
import { deployBlock, deployBlocks } from '../../rig/deploy-blocks.ts';
import { assertHostUnchanged, type HostState, hostState } from '../../rig/host.ts';

/** Run elsewhere: packages.ts, and the test of the upgrade. */
const ELSEWHERE = ['by package', 'configure', 'by hand', 'back by the copy', 'remove the package'];
const HERE = ['back up', 'restore the journal', 'restore a volume', 'remove', 'remove by hand'];

let world: World;
let clean: HostState;

before(async () => {
  world = await makeWorld();
  await world.addTemplate('web', { files: 5 });
  await world.lxd.launch('c1');
  scripts();
  await (await world.engine())[Symbol.asyncDispose]();
  clean = hostState(world.dir);
  run('systemctl start shiftvol');
});
after(async () => {
  if (world) run('systemctl stop shiftvol');
  await world?.[Symbol.asyncDispose]();
});

const at = (...names: readonly string[]) => join(world.dir, ...names);

/** Of the host: what would be in its directories. */
function scripts(): void {
  const program = (name: string, text: string) => {
    writeFileSync(at('bin', name), `#!/bin/sh\n${text}\n`);
    chmodSync(at('bin', name), 0o755);
  };
  for (const name of ['bin', 'etc', 'etc/shiftvol', 'cache']) mkdirSync(at(name));
  program('shiftvol', `exec "${process.execPath}" "${CLI}" "$@"`);
  program(
    'systemctl',
    `pid=${at('agent.pid')}
case "$1" in
start)
  setsid shiftvol serve </dev/null >>${at('agent.log')} 2>&1 &
  echo $! >"$pid"
  for _ in $(seq 100); do shiftvol health >/dev/null 2>&1 && exit; sleep 0.1; done
  cat ${at('agent.log')} >&2
  exit 1
  ;;
stop | disable)
  [ -e "$pid" ] || exit 0
  kill "$(cat "$pid")" && while [ -d "/proc/$(cat "$pid")" ]; do sleep 0.05; done
  rm "$pid"
  ;;
esac`,
  );
  program('npm', 'echo "npm $*"');
  writeFileSync(at('etc/shiftvol/plugin.yaml'), 'parallel: 3\n');
  for (const name of ['subuid', 'subgid']) copyFileSync(`/etc/${name}`, at('etc', name));
}

function run(script: string): string {
  const env = { ...world.env, PATH: `${at('bin')}:${process.env['PATH']}` };
  const { status, stdout, stderr } = spawnSync('bash', ['-euo', 'pipefail', '-c', script], { env, encoding: 'utf8' });
  assert.equal(status, 0, `${script}\n${stdout}${stderr}`);
  return stdout;
}
const block = (name: string) =>
  run(
    deployBlock(name, {
      '/var/lib/shiftvol': world.stateDir,
      '/run/shiftvol': world.runDir,
      '/var/cache/shiftvol': at('cache'),
      '/backup': at('backup'),
      '/etc/': at('etc/'),
    }),
  );
const inside = (script: string) => world.lxd.sh('c1', script);
const mounts = () =>
  readMountinfo('/proc')
    .filter(m => m.point.startsWith(`${world.runDir}/`))
    .map(m => `${m.mountId} ${m.point}`);

test('each block of commands is run by a test', () => {
  assert.deepEqual([...deployBlocks().keys()].toSorted(), [...ELSEWHERE, ...HERE].toSorted());
});

test('a backup while containers write, and a journal that is put back: what is attached is known again, and was not touched', async () => {
  run('shiftvol attach c1 web:/mnt/data --snapshot');
  await inside('echo kept >/mnt/data/kept; chown 1000:1000 /mnt/data/kept; sync');
  const before = mounts();

  block('back up');

  assert.deepEqual(mounts(), before);
  assert.equal(readFileSync(at('backup/plugin.yaml'), 'utf8'), 'parallel: 3\n');
  assert.equal(run('shiftvol snapshot list --json').trim(), '[]');

  await inside('echo later >/mnt/data/kept');
  run('shiftvol attach c1 web:/mnt/since --snapshot');
  run('systemctl stop shiftvol');
  copyFileSync(join(world.stateDir, 'journal.db'), at('newest.db'));
  writeFileSync(join(world.stateDir, 'journal.db'), 'a disk that lost it');
  assert.match(block('restore the journal'), /\/mnt\/data/);

  assert.deepEqual(
    mounts().filter(line => before.includes(line)),
    before,
  );
  assert.match(readFileSync(at('agent.log'), 'utf8'), /not in the journal, left alone/);
  assert.equal(await inside('cat /mnt/data/kept'), 'later', 'it goes on with what it has');
  // For the tests below: as if it had never been lost.
  run(`systemctl stop shiftvol; cp ${at('newest.db')} ${world.stateDir}/journal.db; systemctl start shiftvol`);
});

test('what a container wrote comes back with its owners', async () => {
  block('restore a volume');

  assert.equal(await inside('cat /mnt/restored/kept; stat -c %u:%g /mnt/restored/kept'), 'kept\n1000:1000');
});

test('when all is removed there is nothing of ours on the host, and the container goes on', async () => {
  block('remove');
  block('remove by hand');

  for (const path of [world.stateDir, world.runDir, at('cache'), at('etc/shiftvol')])
    assert.ok(!existsSync(path), path);
  assert.doesNotMatch(readFileSync(at('etc/subuid'), 'utf8'), /^shiftvol:/m);
  await assertHostUnchanged(withoutPool({ ...clean, files: hostState(world.dir).files }));
  assert.deepEqual((await world.lxd.get('c1'))['devices'], {});
  await inside('test ! -e /mnt/data');
});

/** The pool itself was there before, and has gone with the rest. */
function withoutPool(state: HostState): HostState {
  const isPool = (line: string) => line.includes(`${world.stateDir}/pool`);
  const loops = state.loops.filter(line => !isPool(line));
  return { ...state, loops, mounts: state.mounts.filter(line => !isPool(line)) };
}
