import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Feed, type Section, type SectionRow } from '../../../src/page/feed.ts';

type Told = { event: string; id: string; data: Record<string, unknown> };
const parse = (bytes: Buffer): Told => {
  const [, id = '', event = '', data = ''] = /^id: (.*)\nevent: (.*)\ndata: (.*)\n\n$/s.exec(bytes.toString()) ?? [];
  return { id, event, data: JSON.parse(data) };
};
const until = async (isSo: () => boolean): Promise<void> => {
  for (const end = Date.now() + 5000; !isSo() && Date.now() < end; ) await sleep(5);
  assert.ok(isSo());
};

/** Rows of one section, how they were asked for, and who watches. */
function bed(more: Partial<Section> = {}) {
  const rows = new Map<string, SectionRow>();
  const asked: (readonly string[] | 'all')[] = [];
  const errors: unknown[] = [];
  const state = { watchers: 0, changed: (_group?: string): void => undefined, fails: false };
  const put = (key: string, group: string, value: object) =>
    rows.set(key, { key, group, value: { id: key, ...value } });
  const feed = new Feed({
    facts: { host: 'h' },
    onError: (_section, error) => errors.push(error),
    watch(changed) {
      state.watchers++;
      state.changed = changed;
      return { [Symbol.dispose]: () => void state.watchers-- };
    },
    sections: [
      {
        name: 's',
        grouped: true,
        idleMs: 60_000,
        restMs: 0,
        read: async groups => {
          asked.push(groups === 'all' ? 'all' : [...groups]);
          if (state.fails) throw new Error('the disk is on fire');
          return [...rows.values()].filter(row => groups === 'all' || groups.has(row.group));
        },
        ...more,
      },
    ],
  });
  return { feed, rows, asked, errors, state, put };
}

test('nothing is watched or read until somebody looks', async () => {
  const { feed, asked, state } = bed();
  await sleep(20);
  assert.deepEqual([asked.length, state.watchers, feed.watched], [0, 0, false]);

  await feed.join(() => undefined);
  assert.deepEqual([asked, state.watchers], [['all'], 1]);
  feed[Symbol.dispose]();
  assert.equal(state.watchers, 0);
});

test('all who look are shown one and the same buffer', async () => {
  const { feed, put } = bed();
  using _ = feed;
  put('a', 'g', { text: '"\n' });
  await feed.join(() => undefined);

  const first = feed.snapshot();
  assert.equal(feed.snapshot().bytes, first.bytes);
  const { event, data } = parse(first.bytes);
  assert.equal(event, 'snapshot');
  assert.deepEqual(data, { host: 'h', sections: { s: { rows: [{ id: 'a', text: '"\n' }], failed: null } } });
});

test('a change of one group reads that group, and tells what is otherwise and what is gone', async () => {
  const { feed, rows, asked, state, put } = bed();
  using _ = feed;
  put('a', 'g1', { n: 1 });
  put('b', 'g1', { n: 1 });
  put('c', 'g2', { n: 1 });
  let told = 0;
  await feed.join(() => told++);
  const { sequence } = feed.snapshot();

  put('a', 'g1', { n: 2 });
  put('c', 'g2', { n: 2 });
  rows.delete('b');
  state.changed('g1');
  state.changed('g1');
  await until(() => told === 1);

  assert.deepEqual(asked, ['all', ['g1']]);
  const [frame, ...more] = feed.after(sequence) ?? [];
  assert.equal(more.length, 0);
  assert.ok(frame);
  assert.deepEqual(parse(frame.bytes).data, { s: { set: [{ id: 'a', n: 2 }], gone: ['b'], failed: null } });
});

test('a change that comes to nothing is not told', async () => {
  const { feed, asked, state, put } = bed();
  using _ = feed;
  put('a', 'g', { n: 1 });
  let told = 0;
  await feed.join(() => told++);

  state.changed('g');
  await until(() => asked.length === 2);
  await sleep(20);

  assert.equal(told, 0);
});

test('marks that never end do not put the look off for ever', async () => {
  const { feed, asked, state } = bed();
  using _ = feed;
  await feed.join(() => undefined);

  for (let i = 0; i < 30; i++) {
    state.changed('g');
    await sleep(10);
  }

  assert.ok(asked.length >= 2);
});

test('whoever was away gets what he missed; beyond what is kept he gets nothing, and takes all anew', async () => {
  const { feed, state, put } = bed();
  using _ = feed;
  let told = 0;
  await feed.join(() => told++);
  const { sequence } = feed.snapshot();
  const id = parse(feed.snapshot().bytes).id;
  assert.equal(feed.sequenceOf(id), sequence);
  assert.equal(feed.sequenceOf('0123456789ab-0'), undefined);
  assert.equal(feed.sequenceOf(`${id}x`), undefined);

  const large = 'x'.repeat(1.5 * 2 ** 20);
  for (let n = 1; n <= 2; n++) {
    put('a', 'g', { n, large });
    state.changed('g');
    await until(() => told === n);
  }
  assert.equal(feed.after(sequence)?.length, 2);
  put('a', 'g', { n: 3, large });
  state.changed('g');
  await until(() => told === 3);

  assert.equal(feed.after(sequence), undefined);
  assert.equal(feed.after(sequence + 1)?.length, 2);
  assert.equal(feed.after(sequence + 3)?.length, 0);
  assert.equal(feed.after(sequence + 4), undefined);
});

test('a section that cannot be read keeps its rows, and says why', async () => {
  const { feed, errors, state, put } = bed();
  using _ = feed;
  put('a', 'g', { n: 1 });
  let told = 0;
  await feed.join(() => told++);
  const { sequence } = feed.snapshot();

  state.fails = true;
  state.changed('g');
  await until(() => told === 1);

  const [frame] = feed.after(sequence) ?? [];
  assert.ok(frame);
  assert.deepEqual(parse(frame.bytes).data, { s: { set: [], gone: [], failed: 'the disk is on fire' } });
  assert.equal(errors.length, 1);
});

test('one section that does not answer holds up nothing', async () => {
  const { feed } = bed({ read: () => new Promise(() => undefined) });
  using _ = feed;
  const started = performance.now();

  await feed.join(() => undefined);

  assert.ok(performance.now() - started < 4000);
  assert.deepEqual(parse(feed.snapshot().bytes).data, { host: 'h', sections: { s: { rows: [], failed: null } } });
});

test('a look that takes long is not repeated before ten times as long has passed', async () => {
  const looks: { began: number; ended: number }[] = [];
  const { feed, state } = bed({
    read: async () => {
      const began = performance.now();
      await sleep(20);
      looks.push({ began, ended: performance.now() });
      return [];
    },
  });
  using _ = feed;
  await feed.join(() => undefined);

  // The first is of all; what that took puts off no look at a part.
  while (looks.length < 4) {
    state.changed('g');
    await sleep(5);
  }

  const [, second, third, fourth] = looks;
  for (const [before, next] of [
    [second, third],
    [third, fourth],
  ] as const) {
    assert.ok(before && next);
    assert.ok(next.began - before.ended >= 9 * (before.ended - before.began));
  }
});
