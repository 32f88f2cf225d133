import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShiftvolError } from '../../../src/errors.ts';
import { toRemote } from '../../../src/nova/errors.ts';

const refused = new ShiftvolError('SV_USAGE', 'Cannot move "one": its disk would be smaller');
const subject = { method: 'migrate_disk_and_power_off', instance: 'a-uuid' };

test('a migration that is refused arrives as one after which Nova keeps the state of the instance', () => {
  assert.equal(toRemote(refused, subject).className, 'ResizeError');
});

test('what failed and could not be taken back arrives as none of these', () => {
  const both = new SuppressedError(new Error('LXD is away'), refused, 'it did not move, and it could not be put back');

  assert.equal(toRemote(both, subject).className, 'NovaException');
});
