import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

/**
 * Who may import whom. Changing this table is a design decision: say why in DECISIONS.md.
 * Files in src/ itself (errors, brand) may be imported by all. `engine` means its types and interfaces for those below it.
 */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  kernel: [],
  idmap: [],
  engine: ['idmap'],
  store: ['engine'],
  storage: ['engine', 'kernel', 'idmap', 'mount'],
  mount: ['engine', 'kernel', 'idmap'],
  container: ['engine', 'kernel', 'idmap'],
  config: [],
  events: ['engine', 'config'],
  bus: ['engine', 'config', 'events', 'log'],
  log: ['engine'],
  trace: ['engine', 'config', 'log'],
  openstack: ['engine', 'log'],
  nova: ['engine', 'container', 'bus', 'idmap', 'kernel'],
  migrate: ['engine', 'kernel', 'storage'],
  http: ['engine'],
  metrics: ['engine', 'bus', 'http'],
  page: ['engine', 'idmap', 'http'],
  doctor: ['engine', 'kernel', 'idmap', 'mount', 'storage', 'container', 'store', 'bus', 'config'],
  cli: [
    'engine',
    'idmap',
    'storage',
    'migrate',
    'mount',
    'container',
    'store',
    'bus',
    'nova',
    'config',
    'http',
    'metrics',
    'page',
    'log',
    'trace',
    'doctor',
    'openstack',
    'kernel',
  ],
};

const SRC = fileURLToPath(new URL('../../src', import.meta.url));

function* imports(): Generator<{ file: string; from: string; to: string; typeOnly: boolean }> {
  for (const file of readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(f => f.endsWith('.ts'))) {
    const text = readFileSync(join(SRC, file), 'utf8');
    for (const [statement, path = ''] of text.matchAll(
      /(?:import|export)\s[^;]*?from\s+'(\.[^']+)'|import\('(\.[^']+)'\)/g,
    )) {
      const to = normalize(join(dirname(file), path || (/'([^']+)'/.exec(statement)?.[1] ?? '')));
      yield {
        file,
        from: file.split('/')[0] ?? '',
        to: to.split('/')[0] ?? '',
        typeOnly: /^(import|export) type/.test(statement),
      };
    }
  }
}

test('imports run one way: only what the table allows', () => {
  const wrong = [...imports()]
    .filter(({ from, to }) => from !== to && !to.endsWith('.ts') && !from.endsWith('.ts'))
    .filter(({ from, to }) => !(MAY_IMPORT[from] ?? []).includes(to))
    .map(({ file, to }) => `${file} -> ${to}/`);
  assert.deepEqual(wrong, []);
});

test('the files that all may import, import nothing of ours', () => {
  const wrong = [...imports()].filter(({ from, to }) => from.endsWith('.ts') && !to.endsWith('.ts')).map(i => i.file);
  assert.deepEqual(wrong, []);
});

test('nothing is chowned but the root of a template being made, and only storage starts programs', () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(f => f.endsWith('.ts'));
  const having = (pattern: RegExp) => files.filter(file => pattern.test(readFileSync(join(SRC, file), 'utf8')));
  assert.deepEqual(
    having(/\b[fl]?chown(Sync)?\(/).filter(file => !file.startsWith('storage/import/')),
    [],
  );
  assert.deepEqual(
    // And a person's browser, for a person.
    having(/from 'node:child_process'/).filter(file => !file.startsWith('storage/') && file !== 'page/open-browser.ts'),
    [],
  );
});
