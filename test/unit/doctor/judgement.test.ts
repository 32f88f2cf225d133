import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgedBus } from '../../../src/doctor/bus.ts';
import { attempt, bad, good, warn } from '../../../src/doctor/check.ts';
import { isFit } from '../../../src/doctor/examine.ts';
import { judged } from '../../../src/doctor/filesystems.ts';
import { toolChecks } from '../../../src/doctor/tools.ts';
import { ShiftvolError } from '../../../src/errors.ts';

test('one file system that can be mapped is enough', () => {
  const checks = [
    good('kernel.idmap-ext4', 'x'),
    warn('kernel.idmap-xfs', 'EINVAL'),
    warn('kernel.idmap-btrfs', 'EINVAL'),
  ];

  assert.deepEqual(judged(checks), checks);
  assert.equal(isFit(judged(checks)), true);
});

test('none that can be mapped is not', () => {
  const checks = [
    warn('kernel.idmap-ext4', 'EINVAL'),
    warn('kernel.idmap-xfs', 'EINVAL'),
    warn('kernel.idmap-btrfs', 'EINVAL'),
  ];

  assert.equal(isFit(judged(checks)), false);
});

test('what was not tried is not held against the host', () => {
  const checks = [
    warn('kernel.idmap-ext4', 'not tried: only root can'),
    warn('kernel.idmap-xfs', 'not tried: only root can'),
  ];

  assert.equal(isFit(judged(checks)), true);
});

test('a warning is fit, a failure is not', () => {
  assert.equal(isFit([good('pool.status', 'x'), warn('pool.space', 'y')]), true);
  assert.equal(isFit([good('pool.status', 'x'), bad('pool.space', 'y')]), false);
});

test('one broker of several that answers is enough; a backlog is worth a look', () => {
  const away = { check: 'bus.connect', ok: false, detail: 'h1', remedy: 'start it' };
  const there = { check: 'bus.connect', ok: true, detail: 'h2' };
  const backlog = { check: 'bus.queue', ok: false, detail: 'many', remedy: 'look' };

  assert.deepEqual(
    judgedBus([away, there, backlog]).map(c => c.ok),
    ['warn', true, 'warn'],
  );
  assert.deepEqual(
    judgedBus([away]).map(c => c.ok),
    [false],
  );
});

test('what a check throws is its answer, with the remedy apart', async () => {
  const thrown = new ShiftvolError('SV_POOL_NOT_FOUND', 'Cannot find a pool', { remedy: 'make one' });

  assert.deepEqual(await attempt('pool.status', () => Promise.reject(thrown)), {
    check: 'pool.status',
    ok: false,
    detail: 'Cannot find a pool',
    remedy: 'make one',
  });
});

test('missing tools are told by package, with the commands that want them', () => {
  const found = toolChecks(['/nowhere']);

  const xfs = found.find(c => c.check === 'tools.xfsprogs');
  assert.equal(xfs?.ok, 'warn');
  assert.match(xfs?.detail ?? '', /mkfs\.xfs is missing: wanted by pool create/);
  assert.equal(xfs?.remedy, 'apt-get install xfsprogs');
  assert.equal(isFit(found), true);
});
