/**
 * Programs to go from and to: each a directory as the packages lay it out, started by its own bin/shiftvol. The one before is this
 * checkout; the one after is the same with a migration more and another version. So it is the same test in a clone without history.
 * $SHIFTVOL_UPGRADE_FROM, a commit, puts that one's program in the place of the one before: for a look before a release.
 */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MIGRATIONS, type Migration } from '../../../src/store/schema.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const PARTS = ['bin', 'src', 'package.json', 'package-lock.json', 'plugin.yaml'] as const;

export type Program = {
  readonly path: string;
  /** As one runs it. */
  readonly argv: readonly [string];
  /** Of the journal, as it leaves it. */
  readonly schema: number;
};

export type Programs = Disposable & {
  /** Version N. */
  readonly before: Program;
  /** N + 1, with a migration that only adds. */
  readonly after: Program;
  /** N + 2, with one that neither can work with. */
  readonly changed: Program;
};

export function makePrograms(): Programs {
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-versions-'));
  const from = process.env['SHIFTVOL_UPGRADE_FROM'];
  const present = MIGRATIONS.length;
  const add: Migration = { oldest: present, sql: 'CREATE TABLE later (id TEXT PRIMARY KEY, attachment TEXT) STRICT;' };
  const change: Migration = {
    oldest: present + 1,
    sql: 'ALTER TABLE task ADD COLUMN must INTEGER NOT NULL DEFAULT 1;',
  };
  return {
    before: from === undefined ? checkout(join(dir, 'before')) : released(join(dir, 'before'), from),
    after: next(checkout(join(dir, 'after')), add),
    changed: next(next(checkout(join(dir, 'changed')), add), change),
    [Symbol.dispose]: () => rmSync(dir, { recursive: true }),
  };
}

function checkout(path: string): Program {
  mkdirSync(path);
  for (const part of PARTS) cpSync(join(ROOT, part), join(path, part), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(path, 'node_modules'));
  return programIn(path, MIGRATIONS.length);
}

function released(path: string, commit: string): Program {
  mkdirSync(path);
  const archive = execFileSync('git', ['archive', commit, ...PARTS], { cwd: ROOT, maxBuffer: 2 ** 28 });
  execFileSync('tar', ['-x', '-C', path], { input: archive });
  const lock = (dir: string) => readFileSync(join(dir, 'package-lock.json'), 'utf8');
  if (lock(path) === lock(ROOT)) symlinkSync(join(ROOT, 'node_modules'), join(path, 'node_modules'));
  else execFileSync('npm', ['ci', '--omit=dev', '--no-audit', '--no-fund', '--prefer-offline'], { cwd: path });
  const schema = readFileSync(join(path, 'src/store/schema.ts'), 'utf8');
  // The entries of a time when they were bare texts, or what they are now.
  const entries = schema.match(/^ {2}`CREATE|^ {4}oldest: \d+|^ {2}\{ oldest: \d+/gm);
  return programIn(path, entries?.length ?? 0);
}

/** The same as a later release would be. */
function next(program: Program, migration: Migration): Program {
  appendFileSync(
    join(program.path, 'src/store/schema.ts'),
    `(MIGRATIONS as Migration[]).push(${JSON.stringify(migration)});\n`,
  );
  const manifest = JSON.parse(readFileSync(join(program.path, 'package.json'), 'utf8'));
  writeFileSync(join(program.path, 'package.json'), JSON.stringify({ ...manifest, version: '99.0.0' }));
  return programIn(program.path, program.schema + 1);
}

const programIn = (path: string, schema: number): Program => ({ path, argv: [join(path, 'bin/shiftvol')], schema });
