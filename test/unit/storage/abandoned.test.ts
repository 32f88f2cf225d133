import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isGone, ownMark } from '../../../src/storage/process-mark.ts';
import { importName, savedImages } from '../../../src/storage/saved.ts';

test('a process is known by its number and its start, dead or alive', async () => {
  assert.match(ownMark(), /^\d+-\d+$/);
  assert.equal(isGone(ownMark()), false);
  const [pid] = ownMark().split('-');
  assert.equal(isGone(`${pid}-1`), true, 'another one of the same number');
  const child = spawn('true');
  await once(child, 'exit');
  assert.equal(isGone(`${child.pid}-1`), true);
  for (const other of ['', 'web', '1', '-1-2', '1-2-3']) assert.equal(isGone(other), false, other);
});

test('what a killed import has saved goes; what a living one and what a user has saved stays', async () => {
  const poolDir = mkdtempSync(join(tmpdir(), 'shiftvol-abandoned-'));
  try {
    const put = (of: string, name: string) => {
      mkdirSync(join(poolDir, 'saved', of), { recursive: true });
      writeFileSync(join(poolDir, 'saved', of, name), '');
    };
    const mine = importName();
    put('a'.repeat(16), `import-${process.pid}-1`);
    for (const name of [mine, 'import-web', 'before-upgrade', `import-web-${process.pid}-1`]) put('b'.repeat(16), name);

    await savedImages({ poolDir }).sweep();
    await savedImages({ poolDir }).sweep();

    assert.deepEqual(readdirSync(join(poolDir, 'saved')), ['b'.repeat(16)]);
    assert.deepEqual(
      readdirSync(join(poolDir, 'saved', 'b'.repeat(16))).toSorted(),
      ['before-upgrade', mine, 'import-web', `import-web-${process.pid}-1`].toSorted(),
    );
  } finally {
    rmSync(poolDir, { recursive: true });
  }
});
