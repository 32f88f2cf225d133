import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  createWriteStream,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { after, test } from 'node:test';
import { planImage, qcow2Stream } from '../../../src/storage/qcow2-writer.ts';

const MIB = 2 ** 20;
const dir = mkdtempSync(join(tmpdir(), 'shiftvol-qcow2-'));
after(() => rmSync(dir, { recursive: true }));
const qemuImg = (...args: readonly string[]) => execFileSync('qemu-img', args, { encoding: 'utf8' });

/** A sparse file with bytes at these places. */
function raw(name: string, size: number, at: readonly (readonly [offset: number, bytes: number])[]): string {
  const path = join(dir, name);
  const fd = openSync(path, 'w');
  for (const [offset, bytes] of at) writeSync(fd, Buffer.alloc(bytes, (offset % 250) + 1), 0, bytes, offset);
  closeSync(fd);
  truncateSync(path, size);
  return path;
}

const TABLE = [
  { name: 'nothing but a hole', size: 10 * MIB, at: [] },
  {
    name: 'data at both ends, which is no whole cluster',
    size: 3 * MIB + 512,
    at: [
      [0, 1],
      [3 * MIB, 512],
    ],
  },
  {
    name: 'runs that touch, and one across two tables',
    size: 1100 * MIB,
    at: [
      [0, 70_000],
      [65_536 * 3, 65_536],
      [511 * MIB, 2 * MIB],
    ],
  },
  {
    name: 'several tables of which one is empty',
    size: 2100 * MIB,
    at: [
      [5 * MIB, 100],
      [1600 * MIB, 300_000],
      [2099 * MIB, MIB],
    ],
  },
  { name: 'no hole', size: 4 * MIB, at: [[0, 4 * MIB]] },
] as const;

for (const { name, size, at } of TABLE)
  test(`an image with ${name} is the same read back, and qemu-img finds no fault`, async () => {
    const source = raw('raw', size, at);
    const target = join(dir, 'qcow2');

    const { body, sizeBytes } = qcow2Stream(source);
    await pipeline(body, createWriteStream(target));

    assert.equal(statSync(target).size, sizeBytes);
    assert.match(qemuImg('check', '-f', 'qcow2', target), /No errors were found/);
    assert.equal(JSON.parse(qemuImg('info', '--output=json', target))['virtual-size'], size);
    assert.match(qemuImg('compare', '-f', 'raw', '-F', 'qcow2', source, target), /Images are identical/);
  });

test('it takes as much as there is data, and a few tables', () => {
  const source = raw('large', 20 * 2 ** 30, [
    [MIB, 10 * MIB],
    [15 * 2 ** 30, MIB],
  ]);
  const { body, sizeBytes } = qcow2Stream(source);
  body.destroy();
  assert.ok(sizeBytes < 13 * MIB, `${sizeBytes}`);
});

test('counts of references count themselves, also where that takes one more block', () => {
  for (const dataClusters of [32_760, 32_761, 32_762, 32_763, 32_764, 32_768, 100_000]) {
    const { clusters, refcountBlockCount, refcountTableClusters } = planImage(2 ** 40, [
      { start: 0, count: dataClusters },
    ]);
    assert.ok(refcountBlockCount * 32_768 >= clusters && (refcountBlockCount - 1) * 32_768 < clusters);
    assert.equal(refcountTableClusters, 1);
  }
});
