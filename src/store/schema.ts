import type { DatabaseSync } from 'node:sqlite';
import { ShiftvolError } from '../errors.ts';

/**
 * Each entry brings the journal from version i to i + 1 (PRAGMA user_version). Entries are never changed once released: an upgrade
 * runs those that are missing, and a journal from a newer shiftvol is refused.
 */
const MIGRATIONS = [
  `CREATE TABLE attachment (
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
  `CREATE TABLE task (id TEXT PRIMARY KEY, instance TEXT NOT NULL, task TEXT NOT NULL, at TEXT NOT NULL) STRICT, WITHOUT ROWID;
   CREATE INDEX task_instance ON task (instance);`,
] as const;

export function migrate(db: DatabaseSync, path: string): void {
  const row = db.prepare('PRAGMA user_version').get();
  const version = Number(row?.['user_version'] ?? 0);
  if (version > MIGRATIONS.length)
    throw new ShiftvolError(
      'SV_STORE',
      `Cannot open the journal "${path}": it has version ${version}, this shiftvol knows up to ${MIGRATIONS.length}`,
      { remedy: 'run the shiftvol that wrote it, or a newer one' },
    );
  for (const [i, sql] of MIGRATIONS.entries()) {
    if (i < version) continue;
    db.exec(`BEGIN IMMEDIATE; ${sql} PRAGMA user_version = ${i + 1}; COMMIT`);
  }
}
