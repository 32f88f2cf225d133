import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { programFor } from '../../../src/cli/program.ts';
import { blocksOf, commandsOf, ROOT, readDocument } from '../../rig/markdown.ts';

const README = readDocument('README.md');
/** What test/e2e/readme.test.ts does not run, and why. */
const NOT_RUN = {
  'npm ci': 'it has been run when tests run',
  'sudo npm run demo':
    'half a minute with a broker and an LXD of its own; what it shows is tested in test/e2e, step by step',
  'sudo npm test': 'it is what runs the tests',
} as const satisfies Readonly<Record<string, string>>;

test('every command of README.md is run by a test, or it is said why not', () => {
  const others = commandsOf(README).filter(command => !command.startsWith('shiftvol '));

  assert.deepEqual(others, Object.keys(NOT_RUN));
});

test('no command of README.md stands where no test finds it', () => {
  assert.deepEqual(
    blocksOf(README)
      .map(({ language }) => language)
      .filter(language => !['sh', 'text', 'yaml', 'ini'].includes(language)),
    [],
  );
  const indented = README.replace(/^```.*?^```$/gms, '').match(/^ {4}(?:sudo |npm |shiftvol ).*$/gm);
  assert.equal(indented, null);
});

test('documents name only scripts that package.json has, and commands that there are', async () => {
  const manifest: { scripts: Record<string, string> } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  for (const path of ['README.md', 'CONTRIBUTING.md', 'deploy/BENCH.md', 'deploy/OPENSTACK.md', 'deploy/README.md'])
    for (const [, name = ''] of readDocument(path).matchAll(/npm run (?:--silent )?([a-z][a-z0-9:]+)/g))
      assert.ok(name in manifest.scripts, `${path}: ${name}`);
  const commands = new Set((await programFor([])).commands.map(command => command.name()));
  for (const path of ['README.md', 'deploy/COMMANDS.md', 'deploy/OPENSTACK.md', 'deploy/README.md'])
    for (const [, name = ''] of readDocument(path).matchAll(/`shiftvol ([a-z][a-z-]+)\b/g))
      assert.ok(commands.has(name), `${path}: ${name}`);
});

test('README.md and deploy/COMMANDS.md tell of every command', async () => {
  const commands = (await programFor([])).commands.map(command => command.name()).filter(name => name !== 'help');
  for (const path of ['README.md', 'deploy/COMMANDS.md']) {
    const text = readDocument(path);
    const untold = commands.filter(name => !new RegExp(`[\`*| ]${name}[\`* ,|]`).test(text));
    assert.deepEqual(untold, [], path);
  }
});

test('what a forge runs for a change is .ci/run, and .ci/run ends with the tests', () => {
  assert.match(readDocument('.github/workflows/ci.yml'), /^ +- run: sudo .*\.ci\/run$/m);
  const parts = [...readDocument('.ci/run').matchAll(/^(?:part \w+ )?(npm .*)$/gm)].map(([, command]) => command);
  assert.deepEqual(parts, [
    'npm ci --no-audit --no-fund',
    'npm run lint',
    'npm run types',
    'npm run build',
    'npm test',
  ]);
});
