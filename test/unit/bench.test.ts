import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseOptions } from '../bench/options.ts';
import { ratioRow, sumRow, toJson, toTable, valueRow } from '../bench/report.ts';
import { median, p99, pairedRatio, quantile, round } from '../bench/statistics.ts';

const MACHINE = { cpu: 'a CPU', cpus: 2, memory_gib: 4, kernel: '6.18.0', node: '24.0.0', disk: '/dev/vda (ext4)' };

test('quantiles lie between the values, in proportion', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.equal(quantile([10, 20], 0.25), 12.5);
  assert.equal(quantile([7], 0.99), 7);
  assert.ok(Math.abs(p99(Array.from({ length: 101 }, (_, i) => i)) - 99) < 1e-9);
  assert.throws(() => median([]), /no values/);
});

test('a ratio is that of pairs, so that a slow moment of the machine falls on both', () => {
  const slowLater = { ours: [2, 2, 20, 20, 20], peer: [1, 1, 10, 10, 10] };

  assert.equal(pairedRatio(slowLater.ours, slowLater.peer), 2);
  assert.throws(() => pairedRatio([1], []), /pair/);
});

test('numbers are printed with the digits that count', () => {
  assert.deepEqual([0.012345, 4.5678, 123.456, 12_345.6].map(round), [0.0123, 4.57, 123, 12_350]);
});

test('a row has all keys whatever it is, and says whether its goal is met', () => {
  const pairs = { ours: [5, 6, 7], peer: [4, 5, 6], peerName: 'C' };
  const rows = [
    ratioRow({ case: 'prepare', files: 1000, fs: 'xfs' }, pairs, 1.25),
    ratioRow({ case: 'prepare', files: 1000, fs: 'xfs' }, pairs, 1.1),
    ratioRow({ case: 'for comparison' }, pairs),
    sumRow({ case: 'attach' }, pairs, 1),
    sumRow({ case: 'bus' }, { ours: [9, 10, 11] }, 9.5),
    valueRow({ case: 'memory' }, 79.96, 'MiB', { text: '<= 80 MiB', met: true }),
  ];

  const { machine, rows: printed } = JSON.parse(toJson({ machine: MACHINE, rows }));

  assert.deepEqual(machine, MACHINE);
  assert.deepEqual(
    printed.map((row: { met: unknown }) => row.met),
    [true, false, null, true, false, true],
  );
  const [first] = printed;
  const asked = { case: 'prepare', files: 1000, fs: 'xfs', ours_ms: 6, peer: 'C', peer_ms: 5, ratio: 1.2, n: 3 };
  assert.deepEqual({ ...first, ...asked, goal: '<= 1.25x' }, first);
  for (const row of printed) assert.deepEqual(Object.keys(row).toSorted(), Object.keys(first).toSorted());
});

test('the table has a line for each row and names what was missed', () => {
  const pairs = { ours: [6], peer: [4], peerName: 'C' };

  const lines = toTable({
    machine: MACHINE,
    rows: [ratioRow({ case: 'prepare', files: 500_000, fs: 'ext4' }, pairs, 1.25)],
  }).split('\n');

  assert.match(lines[0] ?? '', /a CPU, 2 CPUs, 4 GiB, Linux 6.18.0/);
  assert.match(lines.at(-1) ?? '', /prepare +500k +ext4 +6 ms +6 ms +C +4 ms +4 ms +1.5x +<= 1.25x +MISSED +1/);
});

test('options: the quick run leaves the large templates out, what is wrong is named', () => {
  assert.deepEqual(parseOptions([])?.files, [1000, 50_000, 500_000]);
  assert.deepEqual(parseOptions(['--quick'])?.files, [1000, 50_000]);
  assert.deepEqual(parseOptions(['--files', '50k,1k', '--case', 'bus'])?.files, [1000, 50_000]);
  assert.equal(parseOptions(['--quick'])?.cycles, 500);
  assert.equal(parseOptions(['--help']), undefined);
  assert.throws(() => parseOptions(['--case', 'nothing']), /--case "nothing": accepted are floor, chown/);
  assert.throws(() => parseOptions(['--fs', 'zfs']), /accepted are ext4, xfs/);
  assert.throws(() => parseOptions(['--files', '1M']), /accepted are 1, 500, 50k/);
});
