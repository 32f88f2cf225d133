import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Wishes } from '../../../src/bus/wishes.ts';
import type { AttachCommand, DestroyCommand, DetachCommand, SpawnCommand } from '../../../src/engine/model.ts';

const instance = { ref: 'i1' };
const source = { kind: 'template', template: 'web' } as const;
const attach = (requestId: string, volumeId = 'v1'): AttachCommand => ({
  action: 'attach',
  instance,
  requestId,
  volumeId,
  target: '/mnt',
  source,
  readOnly: false,
});
const detach = (requestId: string, volumeId = 'v1'): DetachCommand => ({
  action: 'detach',
  instance,
  requestId,
  volumeId,
  lazy: false,
});
const destroy: DestroyCommand = { action: 'destroy', instance, requestId: 'r-destroy', lazy: false };
const spawn: SpawnCommand = { action: 'spawn', instance, requestId: 'r-spawn', template: 'web' };

test('an attach that waits is void once its volume was to be detached, or its instance destroyed', () => {
  const wishes = new Wishes(100);
  const first = wishes.note(attach('r1'));
  const other = wishes.note(attach('r2', 'v2'));
  wishes.note(detach('r3'));
  assert.ok(wishes.isVoid(attach('r1'), first));
  assert.ok(!wishes.isVoid(attach('r2', 'v2'), other));

  wishes.note(destroy);
  assert.ok(wishes.isVoid(attach('r2', 'v2'), other));
});

test('a detach that waits is void once its volume was attached anew, even within one millisecond', () => {
  const wishes = new Wishes(100);
  wishes.note(attach('r1'));
  const at = wishes.note(detach('r2'));
  assert.ok(!wishes.isVoid(detach('r2'), at), 'not by the attach before it');

  wishes.note(attach('r3'));
  assert.ok(wishes.isVoid(detach('r2'), at));
});

test('the late form of a request that was told before is no new wish', () => {
  const wishes = new Wishes(100);
  const first = wishes.note(attach('r1'));
  const at = wishes.note(detach('r2'));

  assert.equal(wishes.note(attach('r1')), first);
  assert.ok(!wishes.isVoid(detach('r2'), at));
});

test('a destroy that waits is void once the instance was to be spawned again', () => {
  const wishes = new Wishes(100);
  const at = wishes.note(destroy);
  wishes.note(attach('r1'));
  assert.ok(!wishes.isVoid(destroy, at));

  wishes.note(spawn);
  assert.ok(wishes.isVoid(destroy, at));
});
