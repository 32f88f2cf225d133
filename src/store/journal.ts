import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type {
  Attachment,
  AttachmentEvent,
  AttachmentId,
  AttachmentState,
  InstanceKey,
  Plan,
  StepName,
  Task,
} from '../engine/model.ts';
import type { Allocation, Also, Journal, RequestRecord } from '../engine/ports.ts';
import { type Census, census } from './census.ts';
import { Flusher } from './flusher.ts';
import { toAllocation, toAttachment } from './rows.ts';
import { migrate } from './schema.ts';
import { storeError } from './store-error.ts';

/** Answers to requests are kept this long, for duplicates that come late. */
const REQUEST_DAYS = 7;

export type StoreOptions = {
  readonly stateDir: string;
  /** How long to wait for another shiftvol to finish with this directory, in milliseconds. Blocks the thread. */
  readonly lockTimeoutMs: number;
  /** Keep events for the bus (no broker: no outbox that fills up). */
  readonly outbox: boolean;
};

/**
 * The journal in SQLite: `<stateDir>/journal.db`, mode 0600, WAL. The connection holds the file exclusively, which makes it the
 * lock on the state directory too: it ends with the process, however that ends. All values are bound, never spliced.
 *
 * A commit is written to the log and not synced (synchronous = NORMAL): that would stop the event loop for 0.2 to 1 ms each time.
 * `flushed` syncs the log on another thread, once for all who wait, and is to the log what synchronous = FULL would be.
 */
export class Store implements Journal, Disposable {
  readonly #db: DatabaseSync;
  readonly #path: string;
  readonly #outbox: boolean;
  readonly #statements = new Map<string, StatementSync>();
  readonly #listeners = new Set<() => void>();
  /** How many requests were under way when the last holder of this directory died. */
  readonly interrupted: number;
  readonly #log: Flusher;
  /** Events up to this number are on the disk, and may be told. */
  #tellable: number;
  #lastEvent: number;
  /** Steps that are under way and not written yet. */
  readonly #noted = new Map<AttachmentId, StepName>();
  #writingSteps: NodeJS.Immediate | undefined;

  /** @throws SV_LOCKED: another shiftvol has it; SV_STORE: it cannot be read or written */
  constructor(options: StoreOptions) {
    this.#outbox = options.outbox;
    const path = join(options.stateDir, 'journal.db');
    this.#path = path;
    try {
      mkdirSync(options.stateDir, { recursive: true, mode: 0o700 });
      this.#db = new DatabaseSync(path, { timeout: options.lockTimeoutMs });
    } catch (cause) {
      throw storeError(path, cause);
    }
    try {
      this.#db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
      this.#db.exec('BEGIN IMMEDIATE; COMMIT'); // takes the exclusive lock now, not at the first write
      chmodSync(path, 0o600);
      migrate(this.#db, path);
      this.#log = new Flusher(`${path}-wal`);
      // Under way when the last holder died: they have not happened, and asked again they are done.
      this.interrupted = this.#run('DELETE FROM request WHERE state = ?', 'open');
      this.#run('DELETE FROM request WHERE at < ?', Date.now() - REQUEST_DAYS * 86_400_000);
      this.#lastEvent = Number(this.#sql('SELECT max(id) AS id FROM outbox').get()?.['id'] ?? 0);
      this.#tellable = this.#lastEvent;
    } catch (cause) {
      this.#db.close();
      throw storeError(path, cause);
    }
  }

  [Symbol.dispose](): void {
    if (!this.#db.isOpen) return;
    this.#writeSteps();
    this.#log[Symbol.dispose]();
    this.#db.close();
  }

  flushed(): Promise<void> {
    const flushed = this.#log.flush().catch((cause: unknown) => {
      throw storeError('journal', cause);
    });
    flushed.catch(() => undefined); // those who wait hear of it
    return flushed;
  }

  /** Why nothing can be brought to the disk any more, until the next start. */
  get failure(): unknown {
    return this.#log.failure;
  }

  census(): Census {
    return census(this.#db, this.#path);
  }

  list(instance?: InstanceKey): readonly Attachment[] {
    this.#writeSteps();
    const rows =
      instance === undefined
        ? this.#sql('SELECT * FROM attachment ORDER BY created_at, id').all()
        : this.#sql('SELECT * FROM attachment WHERE instance = ? ORDER BY created_at, id').all(instance);
    return rows.map(toAttachment);
  }

  find(id: AttachmentId): Attachment | undefined {
    this.#writeSteps();
    const row = this.#sql('SELECT * FROM attachment WHERE id = ?').get(id);
    return row && toAttachment(row);
  }

  withRef(ref: string): readonly Attachment[] {
    this.#writeSteps();
    return this.#sql("SELECT * FROM attachment WHERE plan ->> '$.ref.ref' = ?").all(ref).map(toAttachment);
  }

  withImage(path: string): readonly Attachment[] {
    this.#writeSteps();
    return this.#sql("SELECT * FROM attachment WHERE plan ->> '$.image.path' = ?").all(path).map(toAttachment);
  }

  begin(plan: Plan, also: Also): void {
    const now = new Date().toISOString();
    const status: AttachmentState = { state: 'attaching', step: 'reserve' };
    this.#transaction(() => {
      this.#run(
        `INSERT INTO attachment (id, instance, target, state, plan, status, request_id, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, plan = excluded.plan, status = excluded.status,
           request_id = excluded.request_id, updated_at = excluded.updated_at`,
        ...[plan.id, plan.instance, plan.target, status.state, JSON.stringify(plan), JSON.stringify(status)],
        ...[also.request?.id ?? null, now, now],
      );
      this.#also(also);
    });
  }

  /** Written by the next turn of the event loop, while the kernel works on the step, or before anybody reads it. */
  step(id: AttachmentId, step: StepName): void {
    this.#noted.set(id, step);
    this.#writingSteps ??= setImmediate(() => this.#writeStepsOrWait());
  }

  settle(id: AttachmentId, status: AttachmentState, also: Also): void {
    this.#noted.delete(id);
    this.#transaction(() => {
      this.#run(
        'UPDATE attachment SET state = ?, status = ?, updated_at = ? WHERE id = ?',
        ...[status.state, JSON.stringify(status), new Date().toISOString(), id],
      );
      this.#also(also);
    });
  }

  remove(id: AttachmentId, also: Also): void {
    this.#noted.delete(id);
    this.#transaction(() => {
      this.#run('DELETE FROM attachment WHERE id = ?', id);
      this.#also(also);
    });
  }

  tasks(instance?: InstanceKey): readonly Task[] {
    const rows =
      instance === undefined
        ? this.#sql('SELECT task FROM task ORDER BY at, id').all()
        : this.#sql('SELECT task FROM task WHERE instance = ? ORDER BY at, id').all(instance);
    return rows.map(row => JSON.parse(String(row['task'])) as Task);
  }

  noteTask(task: Task, also: Also): void {
    this.#transaction(() => {
      this.#run(
        'INSERT INTO task (id, instance, task, at) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET task = excluded.task',
        ...[task.id, task.instance, JSON.stringify(task), new Date().toISOString()],
      );
      this.#also(also);
    });
  }

  endTask(id: Task['id'], also: Also): void {
    this.#transaction(() => {
      this.#run('DELETE FROM task WHERE id = ?', id);
      this.#also(also);
    });
  }

  request(id: string): RequestRecord | undefined {
    const row = this.#sql('SELECT result FROM request WHERE id = ?').get(id);
    return row && (JSON.parse(String(row['result'])) as RequestRecord);
  }

  record(also: Also): void {
    const nothing = !also.request && !also.allocate && !also.release && !(this.#outbox && also.events?.length);
    if (!nothing) this.#transaction(() => this.#also(also));
  }

  forgetRequest(id: string): void {
    this.#run('DELETE FROM request WHERE id = ?', id);
  }

  allocation(instance: InstanceKey): Allocation | undefined {
    const row = this.#sql('SELECT * FROM allocation WHERE instance = ?').get(instance);
    return row && toAllocation(row);
  }

  allocations(): readonly Allocation[] {
    return this.#sql('SELECT * FROM allocation ORDER BY uid_start').all().map(toAllocation);
  }

  /** Events that the broker has not confirmed yet, oldest first; those that a power cut could still undo are not told. */
  pending(limit: number): readonly { readonly id: number; readonly event: AttachmentEvent }[] {
    return this.#sql('SELECT id, event FROM outbox WHERE id <= ? ORDER BY id LIMIT ?')
      .all(this.#tellable, limit)
      .map(row => ({ id: Number(row['id']), event: JSON.parse(String(row['event'])) as AttachmentEvent }));
  }

  /** The broker has it. Not flushed: after a power cut it may be sent again, under the same message id. */
  sent(id: number): void {
    this.#run('DELETE FROM outbox WHERE id = ?', id);
  }

  /** Calls back when added events are on the disk. Returns the way to stop that. */
  onAdded(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Nobody waits here who could be told of a failure; the transaction that ends the saga will meet it too. */
  #writeStepsOrWait(): void {
    this.#writingSteps = undefined;
    try {
      this.#writeSteps();
    } catch (error) {
      if (!(error instanceof Error && 'errcode' in error)) throw error;
    }
  }

  #writeSteps(): void {
    for (const [id, step] of this.#noted) {
      const status: AttachmentState = { state: 'attaching', step };
      this.#run('UPDATE attachment SET status = ? WHERE id = ?', JSON.stringify(status), id);
    }
    this.#noted.clear();
  }

  #also({ request, events, allocate, release }: Also): void {
    if (release) this.#run('DELETE FROM allocation WHERE instance = ?', release);
    if (allocate)
      this.#run(
        'INSERT OR REPLACE INTO allocation (instance, uid_start, gid_start, count, created_at) VALUES (?, ?, ?, ?, ?)',
        ...[allocate.instance, allocate.uid.start, allocate.gid.start, allocate.uid.count, allocate.createdAt],
      );
    if (request)
      this.#run(
        'INSERT OR REPLACE INTO request (id, action, state, result, at) VALUES (?, ?, ?, ?, ?)',
        ...[request.id, request.action, request.result.state, JSON.stringify(request), Date.now()],
      );
    if (!this.#outbox) return;
    for (const event of events ?? []) {
      this.#run('INSERT INTO outbox (event) VALUES (?)', JSON.stringify(event));
      this.#lastEvent = Number(this.#sql('SELECT last_insert_rowid() AS id').get()?.['id']);
    }
  }

  async #tellWhenFlushed(last: number): Promise<void> {
    await this.flushed();
    this.#tellable = Math.max(this.#tellable, last);
    for (const listener of this.#listeners) listener();
  }

  #transaction(work: () => void): void {
    const before = this.#lastEvent;
    this.#sql('BEGIN IMMEDIATE').run();
    try {
      work();
      this.#sql('COMMIT').run();
      // A failure is told to those who wait for it to be on the disk.
      if (this.#lastEvent > before) this.#tellWhenFlushed(this.#lastEvent).catch(() => undefined);
    } catch (cause) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw storeError('journal', cause);
    }
  }

  #sql(text: string): StatementSync {
    let statement = this.#statements.get(text);
    if (!statement) {
      statement = this.#db.prepare(text);
      this.#statements.set(text, statement);
    }
    return statement;
  }

  #run(text: string, ...values: readonly (string | number | null)[]): number {
    this.#log.note();
    return Number(this.#sql(text).run(...values).changes);
  }
}
