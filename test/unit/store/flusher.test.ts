import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Flusher } from '../../../src/store/flusher.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-flusher-'));
const path = join(dir, 'log');
const log = openSync(path, 'w');
after(() => {
  closeSync(log);
  rmSync(dir, { recursive: true });
});

test('who comes while a sync runs shares the next one, who comes with nothing written waits for none', async () => {
  using flusher = new Flusher(path);
  flusher.note();
  const first = flusher.flush();
  assert.equal(flusher.flush(), first, 'nothing was written since it began');

  writeSync(log, 'more');
  flusher.note();
  const second = flusher.flush();
  const third = flusher.flush();

  assert.notEqual(second, first);
  assert.equal(third, second);
  const order: string[] = [];
  await Promise.all([first.then(() => order.push('first')), second.then(() => order.push('second'))]);
  assert.deepEqual(order, ['first', 'second']);
  await flusher.flush();
});

test('it may be disposed of while a sync runs', async () => {
  const flusher = new Flusher(path);
  flusher.note();
  const flushing = flusher.flush();
  flusher[Symbol.dispose]();
  await flushing;
});

test('after a failure every flush fails', async () => {
  const flusher = new Flusher('/proc/self/status');
  flusher.note();
  await assert.rejects(flusher.flush(), { code: 'EINVAL' });
  flusher.note();
  await assert.rejects(flusher.flush(), { code: 'EINVAL' });
  flusher[Symbol.dispose]();
});
