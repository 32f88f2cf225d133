/** The Python driver under the real nova package, over a real broker. Its own tests are in deploy/nova/tests. */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startRabbit } from '../../rig/rabbit.ts';

const run = promisify(execFile);
const PYTHON = '/usr/bin/python3';
const PACKAGE = fileURLToPath(new URL('../../../deploy/nova', import.meta.url));
const WITHOUT =
  'python3-nova and python3-pytest are not installed: with what they need, 200 packages; npm run test:openstack brings them';

function installed(): boolean {
  const { status } = spawnSync(PYTHON, [
    '-c',
    'import importlib.util as u; exit(not (u.find_spec("nova") and u.find_spec("pytest")))',
  ]);
  return status === 0;
}

test('the Nova driver does what its contract says, over a real broker', { skip: !installed() && WITHOUT }, async () => {
  await using rabbit = await startRabbit();

  const { stdout } = await run(PYTHON, ['-B', '-m', 'pytest', '-q', PACKAGE], {
    env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8', SHIFTVOL_TRANSPORT_URL: rabbit.url },
    timeout: 300_000,
  }).catch(error => {
    throw new Error(String(error.stdout).slice(-4000), { cause: error });
  });

  assert.match(stdout, /\d+ passed in/);
  assert.doesNotMatch(stdout, /failed|skipped/);
});
