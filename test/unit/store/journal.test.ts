import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import type { AttachmentEvent, InstanceKey, Plan } from '../../../src/engine/model.ts';
import { isError } from '../../../src/errors.ts';
import { Store } from '../../../src/store/journal.ts';

let stateDir: string;
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'shiftvol-store-'));
});
afterEach(() => rmSync(stateDir, { recursive: true }));

const open = (outbox = true) => new Store({ stateDir, lockTimeoutMs: 50, outbox });
const plan = (id: string, instance = 'c1', target = '/mnt/data') =>
  ({ id, instance, target, image: { kind: 'file', path: `/img/${id}` }, idmap: [] }) as unknown as Plan;
const event = (n: number): AttachmentEvent => ({
  action: 'attach',
  phase: 'start',
  instance: `c${n}`,
  host: 'h',
  at: 'now',
});

test('what was begun is there after a new start, with its step; what was removed is not', () => {
  {
    using store = open();
    store.begin(plan('a'), {});
    store.step(plan('a').id, 'mount');
    store.begin(plan('b', 'c2'), {});
    store.remove(plan('b').id, {});
  }
  using store = open();
  assert.deepEqual(
    store.list().map(a => [a.plan.id, a.status]),
    [['a', { state: 'attaching', step: 'mount' }]],
  );
  assert.deepEqual(
    store.withImage('/img/a').map(a => a.plan.id),
    ['a'],
  );
  assert.deepEqual(store.list('c2' as InstanceKey), []);
});

test('a transaction is whole or not at all', async () => {
  using store = open();
  store.begin(plan('a'), { events: [event(1)] });
  // The same instance and target under another id breaks the key.
  assert.throws(
    () => store.begin(plan('b'), { events: [event(2)], release: 'x' as InstanceKey }),
    e => isError(e, 'SV_STORE'),
  );
  assert.equal(store.list().length, 1);
  await store.flushed();
  assert.equal(store.pending(10).length, 1);
});

test('a second opener is told that the directory is taken', () => {
  using _store = open();
  assert.throws(open, e => isError(e, 'SV_LOCKED') && e.exit === 4);
});

test('requests that were under way are forgotten at the next start, answers are kept', () => {
  {
    using store = open();
    store.record({ request: { id: 'open', action: 'attach', result: { state: 'open' } } });
    store.record({
      request: { id: 'bad', action: 'attach', result: { state: 'failed', error: { code: 'SV_USAGE', message: 'no' } } },
    });
  }
  using store = open();
  assert.equal(store.interrupted, 1);
  assert.equal(store.request('open'), undefined);
  assert.equal(store.request('bad')?.result.state, 'failed');
});

test('events wait in order until they are sent; without a broker none are kept', async () => {
  using store = open();
  let told = 0;
  const stop = store.onAdded(() => told++);
  store.record({ events: [event(1), event(2)] });
  assert.deepEqual(store.pending(1), [], 'what a power cut could undo is not told');
  await store.flushed();
  assert.equal(told, 1);
  const [first] = store.pending(1);
  assert.equal(first?.event.instance, 'c1');
  store.sent(first?.id ?? -1);
  assert.deepEqual(
    store.pending(10).map(e => e.event.instance),
    ['c2'],
  );
  stop();
  store[Symbol.dispose]();
  using quiet = open(false);
  quiet.record({ events: [event(3)] });
  await quiet.flushed();
  assert.equal(quiet.pending(10).length, 1);
});

test('only its owner may read the journal; what is no journal, or from a newer shiftvol, is refused', () => {
  open()[Symbol.dispose]();
  assert.equal(statSync(join(stateDir, 'journal.db')).mode & 0o777, 0o600);
  const db = new DatabaseSync(join(stateDir, 'journal.db'));
  db.exec('PRAGMA user_version = 999; UPDATE reader SET oldest = 999');
  db.close();
  assert.throws(open, e => isError(e, 'SV_STORE') && /version 999/.test(e.message));
  writeFileSync(
    join(stateDir, 'journal.db'),
    'this is not a database, but long enough to be looked at as one'.repeat(100),
  );
  assert.throws(open, e => isError(e, 'SV_STORE'));
});
