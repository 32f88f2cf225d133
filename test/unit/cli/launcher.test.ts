/** bin/shiftvol as npm installs it: which Node it takes. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const LAUNCHER = fileURLToPath(new URL('../../../bin/shiftvol', import.meta.url));
const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'shiftvol-launcher-'));
after(() => rmSync(dir, { recursive: true }));

/** An installed package whose program says what started it; `node` is where npm has put that, below node_modules. */
function installed(name: string, node: string | undefined): string {
  const modules = join(dir, name, 'node_modules');
  const write = (path: string, text: string) => {
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, text, { mode: 0o755 });
  };
  write(join(modules, 'shiftvol/dist/cli/main.js'), '');
  mkdirSync(join(modules, 'shiftvol/bin'));
  cpSync(LAUNCHER, join(modules, 'shiftvol/bin/shiftvol'));
  if (node !== undefined) write(join(modules, node, 'bin/node'), '#!/bin/sh\necho packaged "$@"\n');
  mkdirSync(join(modules, '.bin'));
  symlinkSync('../shiftvol/bin/shiftvol', join(modules, '.bin/shiftvol'));
  write(join(dir, name, 'path/node'), '#!/bin/sh\necho old "$@"\n');
  return join(dir, name);
}

function start(home: string, path: string) {
  const { status, stdout, stderr } = spawnSync(join(home, 'node_modules/.bin/shiftvol'), ['list', 'a b'], {
    encoding: 'utf8',
    env: { PATH: path },
  });
  return { status, stdout: stdout.replace(home, 'HOME'), stderr };
}

for (const [where, node] of [
  ['beside the package', 'node'],
  ['in the package', 'shiftvol/node_modules/node'],
] as const)
  test(`the Node ${where} is taken, whatever PATH has`, () => {
    const home = installed(where.replaceAll(' ', '-'), node);

    const { stdout } = start(home, `${join(home, 'path')}:/usr/bin:/bin`);

    assert.equal(stdout, 'packaged HOME/node_modules/shiftvol/dist/cli/main.js list a b\n');
  });

test('without one the Node in PATH is taken, and without that it is told what is needed', () => {
  const home = installed('bare', undefined);
  const tools = join(dir, 'tools');
  mkdirSync(tools);
  symlinkSync('/usr/bin/readlink', join(tools, 'readlink'));

  assert.equal(
    start(home, `${join(home, 'path')}:${tools}`).stdout,
    'old HOME/node_modules/shiftvol/dist/cli/main.js list a b\n',
  );
  const { status, stderr } = start(home, tools);
  assert.equal(status, 5);
  assert.match(stderr, /^shiftvol: Cannot find Node: 24 or later is needed [^\n]*\n$/);
});

test('an old Node says what is needed, and loads nothing that it could not read', () => {
  const old = "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.20.2' } });";
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${encodeURIComponent(old)}`, MAIN, 'list'],
    { encoding: 'utf8' },
  );

  assert.deepEqual([status, stdout], [5, '']);
  assert.match(stderr, /^shiftvol: Cannot run on Node 20\.20\.2: 24 or later is needed [^\n]*\n$/);
});
