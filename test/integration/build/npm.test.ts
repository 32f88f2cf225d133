/** The tarball of `npm pack`: that it installs in a clean directory and runs, with the Node that it brings. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { builtCheckout, type Checkout } from '../../rig/package.ts';

let checkout: Checkout;
let tarball: string;
const dir = mkdtempSync(join(tmpdir(), 'shiftvol-npm-'));

before(() => {
  checkout = builtCheckout();
  // prepack builds once more: what is tested is what a release is made by.
  const [packed]: { filename: string }[] = JSON.parse(
    checkout.run('npm', 'pack', '--json', '--silent', '--pack-destination', dir).replace(/^[^[]*/s, ''),
  );
  tarball = join(dir, packed?.filename ?? '');
});
after(async () => {
  rmSync(dir, { recursive: true });
  await checkout?.[Symbol.asyncDispose]();
});

/** With no other Node in PATH than npm's own; quietly. */
function npm(cwd: string, command: string, ...args: readonly string[]): string {
  return execFileSync(command, [...args, '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error'], {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
}

test('it has what runs and what is read, and no sources and tests', () => {
  const list = execFileSync('tar', ['tzf', tarball], { encoding: 'utf8' }).split('\n');

  for (const path of [
    'bin/shiftvol',
    'dist/cli/main.js',
    'dist/page/assets/page.html',
    'plugin.yaml',
    'README.md',
    'LICENSE',
    'dist/man/shiftvol.1',
    'dist/completion/bash',
  ])
    assert.ok(list.includes(`package/${path}`), path);
  assert.deepEqual(
    list.filter(path => /^package\/(?:src|test|build|node_modules)\//.test(path)),
    [],
  );
});

test('npm install --global: the command, its own Node and the manual are there', () => {
  const prefix = join(dir, 'prefix');
  mkdirSync(prefix);

  npm(dir, 'npm', 'install', '--global', '--prefix', prefix, tarball);

  const shiftvol = join(prefix, 'bin/shiftvol');
  const env = { PATH: '/usr/bin:/bin', HOME: dir };
  assert.equal(execFileSync(shiftvol, ['--version'], { encoding: 'utf8', env }), '0.1.0\n');
  assert.match(execFileSync(shiftvol, ['idmap', 'parse', 'b:0:100000:65536'], { encoding: 'utf8', env }), /100000/);
  assert.equal(
    execFileSync(shiftvol, ['list', '--json', '--state-dir', join(dir, 'none'), '--run-dir', join(dir, 'none')], {
      encoding: 'utf8',
      env,
    }),
    '[]\n',
  );
  assert.ok(existsSync(join(prefix, 'lib/node_modules/shiftvol/dist/man/shiftvol.1')));
});

test('npx runs it in a directory that has nothing', () => {
  const empty = join(dir, 'empty');
  mkdirSync(empty);
  const text = execFileSync('npx', ['--yes', '--prefer-offline', '--package', tarball, '--', 'shiftvol', '--version'], {
    cwd: empty,
    encoding: 'utf8',
    env: { ...process.env, npm_config_cache: join(dir, 'cache'), NODE_OPTIONS: '' },
  });
  assert.equal(text, '0.1.0\n');
});
