/** `doctor --fix`: makes what is missing, says so, and nothing else. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { bad } from '../../../src/doctor/check.ts';
import { fixesFor } from '../../../src/doctor/fix.ts';
import { removePool } from '../../../src/storage/pool.ts';
import { poolStatus } from '../../../src/storage/pool-status.ts';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const NEVER = new AbortController().signal;
const dir = mkdtempSync(join(tmpdir(), 'shiftvol-fix-'));
after(() => rmSync(dir, { recursive: true }));
const place = (name: string) => ({
  stateDir: join(dir, name, 'state'),
  runDir: join(dir, name, 'run'),
  poolDir: join(dir, name, 'state/pool'),
  subidOwner: 'shiftvol',
});
function etc(name: string, subuid: string, subgid = subuid): string {
  const path = join(dir, name, 'etc');
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, 'subuid'), subuid);
  writeFileSync(join(path, 'subgid'), subgid);
  return path;
}
const NO_IDS = [bad('ids.entry', 'none')];

test('directories and a pool are made, and what is there is left alone', async () => {
  const where = place('all');
  const fixes = await fixesFor([bad('pool.status', 'no pool')], where);
  assert.match(
    fixes.map(f => f.says).join('; '),
    /^make the directory .*state \(mode 700\); make the directory .*run \(mode 711\); make a pool of \d+ GiB in the sparse file/,
  );

  for (const fix of fixes) await fix.run(NEVER);

  try {
    assert.equal(statSync(where.stateDir).mode & 0o777, 0o700);
    assert.equal(statSync(where.runDir).mode & 0o777, 0o711);
    assert.equal(poolStatus(where).reflink, true);
    assert.deepEqual(await fixesFor([bad('pool.status', 'not mounted')], where), []);
  } finally {
    await removePool(where);
  }
});

test('ids are appended to both files, with a line of root where there is none', async () => {
  const files = etc('none', 'alice:100000:65536'); // no newline at its end
  const [first, second, ...more] = (await fixesFor(NO_IDS, place('ids'), files)).filter(f => f.check === 'ids.entry');
  assert.deepEqual(more, []);
  await first?.run(NEVER);
  await second?.run(NEVER);

  for (const name of ['subuid', 'subgid'])
    assert.equal(
      readFileSync(join(files, name), 'utf8'),
      'alice:100000:65536\nroot:1000000:1000000000\nshiftvol:1000000:1000000000\n',
    );
});

test('where root has ids ours are the same, and only the file that lacks them is written', async () => {
  const files = etc('root', 'root:500000:65536000\nshiftvol:500000:65536000\n', 'root:500000:65536000\n');
  const fixes = (await fixesFor(NO_IDS, place('ids'), files)).filter(f => f.check === 'ids.entry');
  assert.deepEqual(
    fixes.map(f => f.says),
    [`append "shiftvol:500000:65536000" to ${files}/subgid`],
  );
});

test('ids that somebody else has are not taken: a person must choose', async () => {
  const files = etc('taken', 'root:100000:65536\nalice:100000:65536\n');
  assert.deepEqual(
    (await fixesFor(NO_IDS, place('ids'), files)).filter(f => f.check === 'ids.entry'),
    [],
  );
});

test('with nobody to ask all is said and nothing done; with --yes it is done', async () => {
  const { stateDir, runDir, poolDir } = place('cli');
  const run = (...args: readonly string[]) =>
    spawnSync(
      process.execPath,
      [MAIN, 'doctor', '--fix', '--json', '--state-dir', stateDir, '--run-dir', runDir, ...args],
      {
        encoding: 'utf8',
        // A subid owner that is there, so that the files of this host are not written.
        env: { ...process.env, SHIFTVOL_CONFIG: config },
      },
    );
  const config = join(dir, 'plugin.yaml');
  writeFileSync(config, 'subid_owner: root\n');

  const asked = run();
  assert.match(asked.stderr, /^not done: make the directory/m);
  assert.equal(statSync(stateDir, { throwIfNoEntry: false }), undefined);
  const done = run('--yes');
  try {
    const { fixes } = JSON.parse(done.stdout);
    assert.ok(fixes.length >= 3, done.stderr);
    assert.ok(
      fixes.every((f: { did: boolean }) => f.did),
      done.stderr,
    );
    assert.equal(poolStatus({ stateDir, poolDir }).mounted, true);
  } finally {
    await removePool({ stateDir, poolDir });
  }
});
