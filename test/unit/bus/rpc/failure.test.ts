import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RemoteError } from '../../../../src/bus/rpc/endpoint.ts';
import { failureOf, remoteErrorOf } from '../../../../src/bus/rpc/failure.ts';
import { ShiftvolError } from '../../../../src/errors.ts';

const told = (error: unknown) => JSON.parse(failureOf(remoteErrorOf(error, 'spawn')));

test('a RemoteError is told as it is, for Nova unless said otherwise, and without its cause', () => {
  const error = new RemoteError('VolumeNotFound', 'Volume v could not be found.', {
    kwargs: { volume_id: 'v' },
    cause: new Error('hidden'),
  });

  assert.deepEqual(told(error), {
    class: 'VolumeNotFound',
    module: 'nova.exception',
    message: 'Volume v could not be found.',
    tb: [],
    args: ['Volume v could not be found.'],
    kwargs: { volume_id: 'v' },
  });
});

test('an error of ours is told with its code, and what to do', () => {
  const error = new ShiftvolError('SV_BUSY', 'Cannot detach: it is used', {
    remedy: 'end it',
    cause: new Error('EBUSY'),
  });

  assert.deepEqual(told(error), {
    class: 'ShiftvolError',
    module: 'shiftvol',
    message: 'Cannot detach: it is used: EBUSY',
    tb: [],
    args: ['Cannot detach: it is used: EBUSY'],
    kwargs: { code: 'SV_BUSY', remedy: 'end it' },
  });
});

test('arguments of the wrong shape are a TypeError; an error of the language is not', () => {
  assert.equal(told(new ShiftvolError('SV_MESSAGE', 'Cannot read the arguments')).class, 'TypeError');
  const fault = told(new TypeError('x is not a function'));
  assert.deepEqual([fault.class, fault.kwargs], ['ShiftvolError', { code: 'SV_INTERNAL' }]);
  assert.ok(!JSON.stringify(fault).includes('not a function'));
});
