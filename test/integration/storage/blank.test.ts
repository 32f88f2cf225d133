import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isError } from '../../../src/errors.ts';
import { isBlank, makeFileSystem } from '../../../src/storage/connect/blank.ts';

const SIZE = 400 * 2 ** 20;
const MIB = 2 ** 20;

describe('a volume', () => {
  let base: string;
  before(() => {
    base = mkdtempSync(join(tmpdir(), 'shiftvol-blank-'));
  });
  after(() => rmSync(base, { recursive: true }));

  const volume = (name: string, sizeBytes = SIZE, ...bytesAt: readonly number[]) => {
    const path = join(base, name);
    writeFileSync(path, '');
    truncateSync(path, sizeBytes);
    const file = openSync(path, 'r+');
    for (const at of bytesAt) writeSync(file, 'x', at);
    closeSync(file);
    return path;
  };
  const blank = (path: string) => isBlank(path, undefined);

  test('is blank where its ends are zeros, however small it is', async () => {
    assert.equal(await blank(volume('large')), true);
    assert.equal(await blank(volume('small', 4096)), true);
    assert.equal(await blank(volume('empty', 0)), false);
  });

  test('is not blank where one byte at one of its ends is none', async () => {
    for (const at of [0, MIB - 1, SIZE - MIB, SIZE - 1])
      assert.equal(await blank(volume('byte', SIZE, at)), false, `${at}`);
    assert.equal(await blank(volume('small-byte', 4096, 4095)), false);
  });

  test('with what was begun on it is formatted again where that is known, and else not', async () => {
    const path = volume('begun');
    const signal = undefined;
    await makeFileSystem(path, 'xfs', { overwrite: false, signal });
    const typeOf = () => execFileSync('blkid', ['-p', '-s', 'TYPE', '-o', 'value', path], { encoding: 'utf8' }).trim();
    await assert.rejects(makeFileSystem(path, 'xfs', { overwrite: false, signal }), e => isError(e, 'SV_TOOL'));
    await makeFileSystem(path, 'xfs', { overwrite: true, signal });
    assert.equal(typeOf(), 'xfs');
    await makeFileSystem(path, 'ext4', { overwrite: true, signal });
    assert.equal(typeOf(), 'ext4');
  });
});
