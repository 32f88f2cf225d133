/** The journal's migrations: from every version there was, whole or not at all, with a copy kept; and who may go back. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import { explain, isError } from '../../../src/errors.ts';
import { Store } from '../../../src/store/journal.ts';
import { MIGRATIONS, type Migration, migrate } from '../../../src/store/schema.ts';

/** Journals as programs of the past have left them, one a version. */
const FIXTURES = new URL('../../fixtures/journal/', import.meta.url);
const NOW = MIGRATIONS.length;
const ADDS: Migration = { oldest: NOW, sql: 'CREATE TABLE later (id TEXT PRIMARY KEY) STRICT;' };
const CHANGES: Migration = { oldest: NOW + 1, sql: 'ALTER TABLE request DROP COLUMN action;' };

let dir: string;
let path: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'shiftvol-schema-'));
  path = join(dir, 'journal.db');
});
afterEach(() => rmSync(dir, { recursive: true }));

function fixture(version: number): void {
  using db = database();
  db.exec(readFileSync(new URL(`v${version}.sql`, FIXTURES), 'utf8'));
}
const database = (file = path) => new DatabaseSync(file);
const versionOf = (db: DatabaseSync) => Number(db.prepare('PRAGMA user_version').get()?.['user_version']);
const copies = () => readdirSync(dir).filter(name => name.startsWith('journal.v'));
/** As an upgrade to a shiftvol that knows one migration more. */
function upgrade(next: Migration): void {
  using db = database();
  migrate(db, path, [...MIGRATIONS, next]);
}
const open = () => new Store({ stateDir: dir, lockTimeoutMs: 0, outbox: true });

test('there is a fixture of every version but the present one, which is made anew', () => {
  assert.deepEqual(
    readdirSync(FIXTURES).toSorted(),
    Array.from({ length: NOW - 1 }, (_, i) => `v${i + 1}.sql`),
  );
});

for (let version = 1; version < NOW; version++)
  test(`a journal of version ${version} is brought to version ${NOW}; a copy as it was is kept, for root alone`, () => {
    fixture(version);

    using store = open();

    assert.deepEqual(
      store.list().map(({ plan, status }) => [plan.instance, plan.target, status.state]),
      [['c1', '/mnt/data', 'attached']],
    );
    assert.equal(store.allocations()[0]?.uid.start, 1_048_576);
    assert.deepEqual(copies(), [`journal.v${version}.db`]);
    const copy = join(dir, `journal.v${version}.db`);
    assert.equal(statSync(copy).mode & 0o777, 0o600);
    using db = database(copy);
    assert.equal(versionOf(db), version);
    assert.equal(db.prepare('SELECT count(*) AS n FROM attachment').get()?.['n'], 1);
  });

test('a new journal needs no copy, and one of this version is not copied again', () => {
  open()[Symbol.dispose]();
  open()[Symbol.dispose]();

  assert.deepEqual(copies(), []);
});

test('what only adds can be worked on by the version before: an upgrade is taken back with all that was done since', () => {
  open()[Symbol.dispose]();
  upgrade(ADDS);

  {
    using store = open();
    store.record({ request: { id: 'since', action: 'attach', result: { state: 'open' } } });
  }

  using db = database();
  assert.equal(versionOf(db), NOW + 1, 'the journal stays as the newer one has made it');
  assert.equal(db.prepare('SELECT count(*) AS n FROM request').get()?.['n'], 1);
  assert.doesNotThrow(() => upgrade(ADDS));
});

test('what changes is refused by the version before, which names the copy that it can go back to', () => {
  open()[Symbol.dispose]();
  upgrade(CHANGES);

  const refusal = new RegExp(
    `version ${NOW + 1}, for a shiftvol that knows ${NOW + 1}; this one knows up to ${NOW} .*journal\\.v${NOW}\\.db`,
  );
  assert.throws(open, e => isError(e, 'SV_STORE') && refusal.test(explain(e)));
  assert.ok(existsSync(join(dir, `journal.v${NOW}.db`)));
});

test('one that changes after one that only adds is refused too', () => {
  open()[Symbol.dispose]();
  {
    using db = database();
    migrate(db, path, [...MIGRATIONS, CHANGES, { oldest: NOW, sql: 'CREATE TABLE later (id TEXT) STRICT;' }]);
  }

  assert.throws(open, e => isError(e, 'SV_STORE'));
});

test('a journal that does not say who may work on it is not touched', () => {
  {
    using db = database();
    db.exec('PRAGMA user_version = 999');
  }

  assert.throws(open, e => isError(e, 'SV_STORE') && /version 999/.test(explain(e)));
});

test('a migration that fails changes nothing, and says from where to where', () => {
  open()[Symbol.dispose]();
  const broken = { oldest: NOW, sql: 'CREATE TABLE half (id TEXT); INSERT INTO none VALUES (1);' };

  assert.throws(
    () => upgrade(broken),
    e => isError(e, 'SV_STORE') && e.message.endsWith(`from version ${NOW} to ${NOW + 1}`),
  );

  using db = database();
  assert.equal(versionOf(db), NOW);
  assert.equal(db.prepare("SELECT count(*) AS n FROM sqlite_schema WHERE name = 'half'").get()?.['n'], 0);
});

test('where no copy can be kept nothing is migrated', () => {
  fixture(NOW - 1);
  mkdirSync(join(dir, `journal.v${NOW - 1}.db`, 'in-the-way'), { recursive: true });

  assert.throws(open, e => isError(e, 'SV_STORE') && /Cannot keep a copy/.test(e.message));

  using db = database();
  assert.equal(versionOf(db), NOW - 1);
  assert.deepEqual(
    readdirSync(dir).filter(name => name.endsWith('.new')),
    [],
  );
});
