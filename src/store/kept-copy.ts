/** The journal as it was before a migration: kept beside it, one for each version that there was, for somebody who goes back. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { ShiftvolError } from '../errors.ts';

/** `/var/lib/shiftvol/journal.v2.db` */
export function keptCopy(journal: string, version: number): string {
  return join(dirname(journal), `journal.v${version}.db`);
}

/**
 * Whole and on the disk when it returns, mode 0600, with what is in the write-ahead log; takes the place of an earlier one of that version.
 * @throws SV_STORE: it cannot be made; the journal is as it was
 */
export function keepCopy(db: DatabaseSync, journal: string, version: number): void {
  const to = keptCopy(journal, version);
  const work = `${to}.new`;
  try {
    rmSync(work, { force: true });
    closeSync(openSync(work, 'wx', 0o600)); // SQLite writes to an empty file, which has the mode from the start
    db.prepare('VACUUM INTO ?').run(work);
    sync(work);
    renameSync(work, to);
    sync(dirname(to));
  } catch (cause) {
    rmSync(work, { force: true });
    throw new ShiftvolError('SV_STORE', `Cannot keep a copy of the journal as "${to}" before it is migrated`, {
      remedy: 'make room there, and start again; nothing has changed',
      cause,
    });
  }
}

function sync(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
