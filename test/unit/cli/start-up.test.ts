/** What `shiftvol list` loads: its start-up is felt, and each package that it would load costs as much as all that it has to do. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Store } from '../../../src/store/journal.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const MAIN = join(ROOT, 'src/cli/main.ts');
/** Tells at the end what was loaded: files by their path, and what Node loaded of its own. */
const SPY = `
  import { registerHooks } from 'node:module';
  const files = [];
  registerHooks({ load(url, context, next) { files.push(url); return next(url, context); } });
  process.on('exit', () => process._rawDebug(JSON.stringify({ files, builtins: process.moduleLoadList })));`;

function loaded(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const spy = `data:text/javascript,${encodeURIComponent(SPY)}`;
  const { stderr, status } = spawnSync(process.execPath, ['--import', spy, MAIN, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  assert.equal(status, 0, stderr);
  const { files, builtins } = JSON.parse(stderr.slice(stderr.indexOf('{"files"')));
  const paths = (files as string[])
    .filter(url => url.startsWith('file:'))
    .map(url => relative(ROOT, fileURLToPath(url)));
  return {
    packages: new Set(paths.flatMap(path => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? [])),
    folders: new Set(paths.flatMap(path => /^src\/([^/]+)\//.exec(path)?.[1] ?? [])),
    files: paths.filter(path => path.startsWith('src/')),
    builtins: (builtins as string[]).map(name => name.replace('NativeModule ', '')),
  };
}

test('list loads commander and nothing else of others, and of ours only what reads the journal', () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'shiftvol-start-'));
  try {
    new Store({ stateDir, lockTimeoutMs: 0, outbox: false })[Symbol.dispose]();

    const { packages, folders, files, builtins } = loaded(['list', '--state-dir', stateDir, '--run-dir', stateDir]);

    assert.deepEqual([...packages], ['commander']);
    assert.deepEqual([...folders].toSorted(), ['cli', 'config', 'engine', 'http', 'store']);
    // What is spoken of, in two small files; nothing that does it.
    assert.deepEqual(files.filter(file => file.startsWith('src/engine/')).toSorted(), [
      'src/engine/model.ts',
      'src/engine/secrets.ts',
    ]);
    assert.ok(files.length <= 30, `${files.length} files of ours: ${files.join(' ')}`);
    for (const heavy of ['http', 'internal/deps/undici/undici', 'crypto', 'tls'])
      assert.ok(!builtins.includes(heavy), `node:${heavy}`);
  } finally {
    rmSync(stateDir, { recursive: true });
  }
});

test('what is said without any work loads no package but commander', () => {
  for (const args of [['--version'], ['--help'], ['attach', '--help']])
    assert.deepEqual([...loaded(args).packages], ['commander'], args.join(' '));
});
