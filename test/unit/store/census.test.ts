import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Attachment, Plan } from '../../../src/engine/model.ts';
import { Store } from '../../../src/store/journal.ts';

const stateDir = mkdtempSync(join(tmpdir(), 'shiftvol-census-'));
after(() => rmSync(stateDir, { recursive: true }));

const plan = (id: string) =>
  ({
    id,
    instance: 'c1',
    target: `/mnt/${id}`,
    image: { kind: 'file', path: `/img/${id}` },
    idmap: [],
  }) as unknown as Plan;

test('the census counts each state, also one of which there is nothing, and the bytes of database and log', () => {
  using store = new Store({ stateDir, lockTimeoutMs: 50, outbox: true });
  for (const id of ['a', 'b', 'c']) store.begin(plan(id), {});
  const detached: Attachment['status'] = { state: 'detached', detachedAt: 'now' };
  store.settle(plan('c').id, detached, {
    events: [{ action: 'detach', phase: 'end', instance: 'c1', host: 'h', at: '' }],
  });

  const { attachments, allocations, tasks, events, bytes } = store.census();

  assert.deepEqual(attachments, { attaching: 2, attached: 0, detaching: 0, detached: 1, undoing: 0 });
  assert.deepEqual({ allocations, tasks, events }, { allocations: 0, tasks: 0, events: 1 });
  const path = join(stateDir, 'journal.db');
  assert.equal(bytes, statSync(path).size + statSync(`${path}-wal`).size);
  assert.equal(store.failure, undefined);
});
