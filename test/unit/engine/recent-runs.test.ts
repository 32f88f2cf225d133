import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventMaker, eventChannel } from '../../../src/engine/events.ts';
import type { AttachmentId, Command } from '../../../src/engine/model.ts';
import { RecentRuns } from '../../../src/engine/recent-runs.ts';
import { stepChannel } from '../../../src/engine/saga.ts';
import { ShiftvolError } from '../../../src/errors.ts';

const id = (n: number) => `a${n}`.padEnd(16, '0') as AttachmentId;
const command = (action: 'attach' | 'destroy'): Command =>
  action === 'attach'
    ? {
        action,
        instance: { ref: 'c1' },
        target: '/mnt',
        source: { kind: 'template', template: 'web' },
        readOnly: false,
      }
    : { action, instance: { ref: 'c1' }, lazy: false };
const events = (action: 'attach' | 'destroy') => new EventMaker(command(action), 'c1', 'node1', performance.now());
const step = (n: number, name: string, more: object = {}) =>
  stepChannel.publish({ attachment: id(n), instance: 'c1', step: name, ms: 1.5, plan: { target: '/mnt' }, ...more });

test('the steps of an attach are remembered with when each began and how long it took', () => {
  using runs = new RecentRuns();
  runs.since(0);
  const told = events('attach');

  told.start(id(1));
  step(1, 'snapshot');
  step(1, 'mount');
  const between = runs.since(0);
  told.end(id(1), []);

  assert.equal(between.runs[0]?.state, 'running');
  const { runs: after } = runs.since(between.version);
  assert.deepEqual(
    after.map(({ attachment, target, action, state, steps }) => [
      attachment,
      target,
      action,
      state,
      steps.map(s => s.step),
    ]),
    [[id(1), '/mnt', 'attach', 'done', ['snapshot', 'mount']]],
  );
  assert.ok(after[0]?.steps.every(s => s.ms === 1.5 && s.startMs >= 0));
  assert.ok((after[0]?.durationMs ?? 0) > 0);
});

test('a failure has its text, at the step and at the run', () => {
  using runs = new RecentRuns();
  runs.since(0);
  const told = events('attach');
  const error = new ShiftvolError('SV_MOUNT', `Cannot mount: ${'x'.repeat(2000)}`);

  told.start(id(1));
  step(1, 'mount', { error });
  told.error(error, id(1));

  const [run] = runs.since(0).runs;
  assert.equal(run?.state, 'failed');
  assert.equal(run?.error?.code, 'SV_MOUNT');
  assert.equal(run?.error?.message.length, 500);
  assert.equal(run?.steps[0]?.failed?.length, 500);
});

test('what is undone after a failure was told is of the run that failed', () => {
  using runs = new RecentRuns();
  runs.since(0);
  const told = events('attach');

  told.start(id(1));
  step(1, 'mount', { error: new Error('no') });
  told.error(new ShiftvolError('SV_MOUNT', 'Cannot mount'), id(1));
  step(1, 'undo device');

  assert.deepEqual(
    runs.since(0).runs.map(r => [r.action, r.state, r.steps.map(s => s.step)]),
    [['attach', 'failed', ['mount', 'undo device']]],
  );
});

test('a command of a whole instance is a run of each of its attachments, and ends them all', () => {
  using runs = new RecentRuns();
  runs.since(0);
  const told = events('destroy');

  told.start();
  step(1, 'undo mount');
  step(2, 'undo mount');
  told.end(undefined, []);

  assert.deepEqual(
    runs.since(0).runs.map(r => [r.attachment, r.action, r.state]),
    [
      [id(1), 'destroy', 'done'],
      [id(2), 'destroy', 'done'],
    ],
  );
});

test('what recover does has no command, and is over with its last step', () => {
  using runs = new RecentRuns();
  runs.since(0);

  step(1, 'undo handoff');

  assert.deepEqual(
    runs.since(0).runs.map(r => [r.action, r.state]),
    [[null, 'done']],
  );
});

test('it is bounded: the oldest runs go, and so do steps beyond some', () => {
  using runs = new RecentRuns();
  runs.since(0);

  for (let n = 0; n < 1000; n++) for (let s = 0; s < (n === 999 ? 500 : 1); s++) step(n, 'mount');

  const kept = runs.since(0).runs;
  assert.equal(kept.length, 256);
  assert.equal(kept.at(-1)?.attachment, id(999));
  assert.equal(kept.at(-1)?.steps.length, 64);
});

test('nothing is heard before somebody asks, nor after he has gone', () => {
  const runs = new RecentRuns();
  assert.equal(stepChannel.hasSubscribers || eventChannel.hasSubscribers, false);

  const kept = runs.keep();
  assert.ok(stepChannel.hasSubscribers && eventChannel.hasSubscribers);
  kept[Symbol.dispose]();

  assert.equal(stepChannel.hasSubscribers || eventChannel.hasSubscribers, false);
});

test('a watcher hears of the instance, and who has a version of an earlier process gets all', () => {
  using runs = new RecentRuns();
  const heard: string[] = [];
  using _watch = runs.onChange(instance => heard.push(instance));
  runs.since(0);

  step(1, 'mount');

  assert.deepEqual(heard, ['c1']);
  assert.equal(runs.since(1_000_000).runs.length, 1);
  assert.equal(runs.since(runs.since(0).version).runs.length, 0);
});
