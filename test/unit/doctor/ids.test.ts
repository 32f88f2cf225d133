import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { idChecks } from '../../../src/doctor/ids.ts';

const base = mkdtempSync(join(tmpdir(), 'shiftvol-unit-'));
after(() => rmSync(base, { recursive: true }));

async function check(subuid: string, subgid = subuid) {
  const etc = mkdtempSync(join(base, 'etc-'));
  writeFileSync(join(etc, 'subuid'), subuid);
  writeFileSync(join(etc, 'subgid'), subgid);
  const found = await idChecks({ owner: 'shiftvol', rangeSize: 65_536, etc });
  return new Map(found.map(c => [c.check, c]));
}

test('the same range for shiftvol and root is all that is needed', async () => {
  const found = await check('root:1000000:655360\nshiftvol:1000000:655360\n');

  assert.deepEqual(
    [...found.values()].filter(c => c.ok !== true),
    [],
  );
  assert.equal(found.get('ids.usable')?.detail, 'room for 10 instances of 65536 ids');
});

test('no line of ours: the remedy is the line, with what root has', async () => {
  const found = await check('root:1000000:655360\n');

  assert.equal(found.get('ids.entry')?.ok, false);
  assert.match(
    found.get('ids.entry')?.remedy ?? '',
    /^echo shiftvol:1000000:655360 \| tee -a \S+\/subuid \S+\/subgid$/,
  );
  assert.equal(found.has('ids.usable'), false);
});

test('a line in one file only: the other file is named', async () => {
  const found = await check('root:1000000:655360\nshiftvol:1000000:655360\n', 'root:1000000:655360\n');

  assert.match(found.get('ids.entry')?.detail ?? '', /no line in \S+\/subgid:/);
});

test('ids that root does not have cannot be used', async () => {
  const found = await check('root:100000:65536\nshiftvol:1000000:655360\n');

  assert.equal(found.get('ids.usable')?.ok, false);
  assert.match(found.get('ids.usable')?.remedy ?? '', /root:1000000/);
});

test('less in common than one instance needs cannot be used', async () => {
  const found = await check('root:1000000:65535\nshiftvol:1000000:65535\n');

  assert.equal(found.get('ids.usable')?.ok, false);
});

test('no line of root’s is worth a look', async () => {
  const found = await check('shiftvol:1000000:655360\n');

  assert.equal(found.get('ids.root-entry')?.ok, 'warn');
  assert.equal(found.get('ids.usable')?.ok, true);
});

test('another user with our ids is named, the runtime’s own lines are not', async () => {
  const lines = 'root:1000000:655360\n_lxd:1000000:655360\nshiftvol:1000000:655360\n';

  assert.equal((await check(lines)).has('ids.overlap'), false);
  assert.match(
    (await check(`${lines}alice:1000000:65536\n`)).get('ids.overlap')?.detail ?? '',
    /alice may use 1000000-1065535/,
  );
});

test('lines that cannot be read are told, the others count', async () => {
  const found = await check('root:1000000:655360\nshiftvol:1000000:655360\nbob:x:1\n');

  assert.equal(found.get('ids.lines')?.ok, 'warn');
  assert.equal(found.get('ids.usable')?.ok, true);
});
