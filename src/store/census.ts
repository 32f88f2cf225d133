import { statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import type { AttachmentState } from '../engine/model.ts';

/** How much there is of what in the journal. */
export type Census = {
  readonly attachments: Readonly<Record<AttachmentState['state'], number>>;
  /** Instances with ids that were given out here. */
  readonly allocations: number;
  /** Tasks that have begun and not ended. */
  readonly tasks: number;
  /** Events that the broker has not confirmed. */
  readonly events: number;
  /** Of the database and its log. */
  readonly bytes: number;
};

/** Counts; parses nothing, so that it costs the same with one attachment and with a thousand. */
export function census(db: DatabaseSync, path: string): Census {
  const count = (table: 'allocation' | 'task' | 'outbox') =>
    Number(db.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.['n']);
  const attachments = { attaching: 0, attached: 0, detaching: 0, detached: 0, undoing: 0 };
  for (const { state, n } of db.prepare('SELECT state, count(*) AS n FROM attachment GROUP BY state').all())
    Object.assign(attachments, { [String(state)]: Number(n) });
  return {
    attachments,
    allocations: count('allocation'),
    tasks: count('task'),
    events: count('outbox'),
    bytes: size(path) + size(`${path}-wal`),
  };
}

const size = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
