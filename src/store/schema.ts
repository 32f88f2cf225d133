import { existsSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { ShiftvolError } from '../errors.ts';
import { keepCopy, keptCopy } from './kept-copy.ts';

/**
 * Brings the journal from one version (PRAGMA user_version) to the next. Never changed once released.
 * `oldest`: the lowest version whose programs may work on the journal afterwards, so that an upgrade can be taken back without losing what
 * was attached since. It is the entry's own version where an older program would misread what this one adds, or lose what it cannot do
 * without; for a new table, or a column that may be null, it is that of the entry before.
 */
export type Migration = { readonly sql: string; readonly oldest: number };

/** Entry i makes version i + 1. */
export const MIGRATIONS: readonly Migration[] = [
  {
    oldest: 1,
    sql: `CREATE TABLE attachment (
     id TEXT PRIMARY KEY, instance TEXT NOT NULL, target TEXT NOT NULL, state TEXT NOT NULL,
     plan TEXT NOT NULL, status TEXT NOT NULL, request_id TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE UNIQUE INDEX attachment_key ON attachment (instance, target);
   CREATE INDEX attachment_ref ON attachment (plan ->> '$.ref.ref');
   CREATE INDEX attachment_image ON attachment (plan ->> '$.image.path');
   CREATE TABLE request (id TEXT PRIMARY KEY, action TEXT NOT NULL, state TEXT NOT NULL, result TEXT NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
   CREATE INDEX request_at ON request (at);
   CREATE TABLE allocation (
     instance TEXT PRIMARY KEY, uid_start INTEGER NOT NULL, gid_start INTEGER NOT NULL, count INTEGER NOT NULL, created_at TEXT NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL) STRICT;`,
  },
  {
    oldest: 2,
    sql: `CREATE TABLE task (id TEXT PRIMARY KEY, instance TEXT NOT NULL, task TEXT NOT NULL, at TEXT NOT NULL) STRICT, WITHOUT ROWID;
   CREATE INDEX task_instance ON task (instance);`,
  },
  // One row: who may work on this journal, whatever its version. A program that knows less than the version looks here.
  { oldest: 3, sql: 'CREATE TABLE reader (oldest INTEGER NOT NULL) STRICT; INSERT INTO reader VALUES (3);' },
];

/** From this version on the journal itself says who may work on it. */
const SAYS_OLDEST = 3;

/**
 * Does the migrations that are missing, each in one transaction, after a copy of the journal as it was has been kept beside it.
 * A journal of a newer shiftvol is worked on where that one said that it may be.
 * @throws SV_STORE: it is too new; the copy cannot be made (the journal is as it was); a migration failed (it is at the one before)
 */
export function migrate(db: DatabaseSync, path: string, migrations: readonly Migration[] = MIGRATIONS): void {
  const version = Number(db.prepare('PRAGMA user_version').get()?.['user_version']);
  if (version > migrations.length) requireReadable(db, path, version, migrations.length);
  if (version > 0 && version < migrations.length) keepCopy(db, path, version);
  for (const [i, { sql, oldest }] of migrations.entries()) {
    if (i < version) continue;
    const says = i + 1 > SAYS_OLDEST ? `UPDATE reader SET oldest = max(oldest, ${oldest});` : '';
    try {
      db.exec(`BEGIN IMMEDIATE; ${sql} ${says} PRAGMA user_version = ${i + 1}; COMMIT`);
    } catch (cause) {
      if (db.isTransaction) db.exec('ROLLBACK');
      throw new ShiftvolError('SV_STORE', `Cannot bring the journal "${path}" from version ${i} to ${i + 1}`, {
        remedy: 'run the shiftvol that it was made by; nothing was lost, and no mount was touched',
        cause,
      });
    }
  }
}

/** @throws SV_STORE */
function requireReadable(db: DatabaseSync, path: string, version: number, known: number): void {
  const oldest = oldestReader(db, version);
  if (oldest <= known) return;
  const copy = keptCopy(path, known);
  throw new ShiftvolError(
    'SV_STORE',
    `Cannot open the journal "${path}": it has version ${version}, for a shiftvol that knows ${oldest}; this one knows up to ${known}`,
    {
      remedy: existsSync(copy)
        ? `run the shiftvol that wrote it, or go back to "${copy}", what it was before the upgrade: see "Upgrade" in deploy/README.md`
        : 'run the shiftvol that wrote it, or a newer one',
    },
  );
}

/** A journal without the row that each has was made by nobody that we know. */
function oldestReader(db: DatabaseSync, version: number): number {
  const there = db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'reader'").get();
  const row = there && db.prepare('SELECT oldest FROM reader').get();
  return row === undefined ? version : Number(row['oldest']);
}
