import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge } from '../../../src/bus/verdict.ts';
import type { Action, Command } from '../../../src/engine/model.ts';
import { type Code, ShiftvolError } from '../../../src/errors.ts';

const instance = { ref: 'c1' };
const commands: Readonly<Record<Action, Command>> = {
  attach: { action: 'attach', instance, target: '/mnt', source: { kind: 'file', path: '/a' }, readOnly: false },
  detach: { action: 'detach', instance, volumeId: 'v', lazy: false },
  spawn: { action: 'spawn', instance, template: 't' },
  extend: { action: 'extend', instance, volumeId: 'v' },
  destroy: { action: 'destroy', instance, lazy: false },
};

test('a failure is ignored, tried again or buried by its code', () => {
  const table: readonly [Action, Code, string][] = [
    ['attach', 'SV_BUSY', 'retry'],
    ['attach', 'SV_LOCKED', 'retry'],
    ['attach', 'SV_RUNTIME', 'retry'],
    ['attach', 'SV_INSTANCE_NOT_FOUND', 'retry'],
    ['attach', 'SV_VOLUME_NOT_FOUND', 'retry'],
    ['attach', 'SV_TARGET_TAKEN', 'bury'],
    ['attach', 'SV_IMAGE_REFUSED', 'bury'],
    ['attach', 'SV_TEMPLATE_NOT_FOUND', 'bury'],
    ['spawn', 'SV_TEMPLATE_NOT_FOUND', 'bury'],
    ['spawn', 'SV_RANGE_EXHAUSTED', 'bury'],
    ['detach', 'SV_BUSY', 'retry'],
    ['detach', 'SV_ATTACHMENT_NOT_FOUND', 'nothing-there'],
    ['detach', 'SV_INSTANCE_NOT_FOUND', 'nothing-there'],
    ['destroy', 'SV_ATTACHMENT_NOT_FOUND', 'nothing-there'],
    ['destroy', 'SV_UNDO', 'retry'],
  ];
  for (const [action, code, expected] of table) {
    const verdict = judge(new ShiftvolError(code, 'x'), commands[action], {
      wildcard: false,
      attempts: 0,
      maxAttempts: 1,
    });

    assert.equal(verdict.kind === 'ignore' ? verdict.reason : verdict.kind, expected, `${action} ${code}`);
  }
});

test('what was tried often enough is buried', () => {
  const error = new ShiftvolError('SV_BUSY', 'x');

  assert.equal(judge(error, commands.attach, { wildcard: false, attempts: 23, maxAttempts: 24 }).kind, 'retry');
  assert.equal(judge(error, commands.attach, { wildcard: false, attempts: 24, maxAttempts: 24 }).kind, 'bury');
});

test('a template that does not exist is no error for an image bound by "*"', () => {
  const verdict = judge(new ShiftvolError('SV_TEMPLATE_NOT_FOUND', 'x'), commands.spawn, {
    wildcard: true,
    attempts: 0,
    maxAttempts: 1,
  });

  assert.deepEqual(verdict, { kind: 'ignore', reason: 'no-template' });
});

test('what is no error of ours is a fault, and buried', () => {
  const verdict = judge(new TypeError('x'), commands.attach, { wildcard: false, attempts: 0, maxAttempts: 9 });

  assert.ok(verdict.kind === 'bury' && verdict.error.code === 'SV_INTERNAL');
});
