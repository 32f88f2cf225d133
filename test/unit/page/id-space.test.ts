import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Claim, idRows, type Lane, laneOf, MOST_CLASHES } from '../../../src/page/id-space.ts';

const claim = (lane: Lane, start: number, count: number, owner: string, kind: Claim['kind'] = 'uid'): Claim => ({
  kind,
  lane,
  start,
  count,
  owner,
});
const clashing = (...claims: Claim[]) =>
  idRows(claims)
    .filter(row => row.clashes)
    .map(row => row.owner)
    .toSorted();

test('a lane is told by how an owner is called', () => {
  assert.equal(laneOf('shiftvol c1'), 'ours');
  assert.equal(laneOf('user:[4026532500] (pid 12, init)'), 'live');
  assert.equal(laneOf('user namespace of pid 12'), 'live');
  assert.equal(laneOf('lxd container "shiftvol"'), 'runtime');
  assert.equal(laneOf('lxc:web'), 'runtime');
});

describe('what is no overlap', () => {
  const CASES: Readonly<Record<string, readonly Claim[]>> = {
    'an instance of ours and its container': [
      claim('ours', 1000, 100, 'shiftvol u-u-i-d'),
      claim('runtime', 1000, 100, 'lxd container "c1"'),
    ],
    'a container that runs, and a user namespace inside of it': [
      claim('runtime', 1000, 100, 'c1'),
      claim('live', 1000, 100, 'user:[1]'),
      claim('live', 1010, 10, 'user:[2]'),
    ],
    neighbours: [claim('ours', 1000, 100, 'a'), claim('ours', 1100, 100, 'b')],
    'uids and gids': [claim('ours', 1000, 100, 'a'), claim('ours', 1000, 100, 'b', 'gid')],
    'what is taken from an entry of subuid': [claim('subid', 0, 10_000, 'shiftvol'), claim('ours', 1000, 100, 'a')],
    'root’s entry and an owner’s': [
      claim('subid', 0, 10_000, 'root'),
      claim('subid', 0, 10_000, 'shiftvol'),
      claim('subid', 0, 20_000, '_lxd'),
    ],
    'two extents of one container': [claim('runtime', 1000, 100, 'a'), claim('runtime', 1000, 50, 'a')],
  };
  for (const [name, claims] of Object.entries(CASES)) test(name, () => assert.deepEqual(clashing(...claims), []));
});

describe('what is one', () => {
  const CASES: Readonly<Record<string, readonly Claim[]>> = {
    'two instances of ours': [claim('ours', 1000, 100, 'a'), claim('ours', 1050, 100, 'b')],
    'two containers with one map': [claim('runtime', 1000, 100, 'a'), claim('runtime', 1000, 100, 'b')],
    'an instance of ours within a container’s ids': [claim('runtime', 0, 10_000, 'a'), claim('ours', 1000, 100, 'b')],
    'a user namespace that reaches out of what its container has': [
      claim('runtime', 1000, 100, 'a'),
      claim('live', 1050, 100, 'b'),
    ],
    'a user namespace around somebody’s ids': [claim('live', 0, 10_000, 'a'), claim('ours', 1000, 100, 'b')],
    'two owners in subuid, neither of them a runtime': [
      claim('subid', 0, 100, 'alice'),
      claim('subid', 50, 100, 'bob'),
    ],
  };
  for (const [name, claims] of Object.entries(CASES))
    test(name, () => assert.deepEqual(clashing(...claims), claims.map(c => c.owner).toSorted()));
});

test('an overlap says which ids it is of and whose they are too', () => {
  const [first] = idRows([claim('ours', 1000, 100, 'a'), claim('ours', 1050, 100, 'b')]);

  assert.deepEqual(first?.clashes, [{ start: 1050, count: 50, owner: 'b' }]);
});

test('each of thousands within one that is everywhere is told', () => {
  const inside = Array.from({ length: 4000 }, (_, n) => claim('ours', 10_000 + n * 100, 100, `shiftvol c${n}`));

  const rows = idRows([claim('runtime', 1000, 1_000_000, 'legacy'), ...inside]);

  assert.ok(rows.every(row => row.clashes));
});

test('thousands that share one range have short lists, and take no time', () => {
  const many = Array.from({ length: 4000 }, (_, n) => claim('runtime', 1000, 65_536, `c${n}`));
  const started = performance.now();

  const rows = idRows(many);

  assert.ok(rows.every(row => row.clashes && row.clashes.length <= MOST_CLASHES));
  assert.ok(performance.now() - started < 2000);
});
