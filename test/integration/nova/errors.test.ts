/** Every class that we name is one of the real Nova's, and can be made as oslo.messaging makes it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { CODES, type Code, ShiftvolError } from '../../../src/errors.ts';
import { toRemote } from '../../../src/nova/errors.ts';
import { SUPPORT } from '../../../src/nova/support.ts';

const SCRIPT = `
import json, sys
from nova import exception
for name, args, kwargs in json.load(sys.stdin):
    error = getattr(exception, name)(*args, **kwargs)
    assert isinstance(error, exception.NovaException), name
    assert str(error) == args[0], (name, str(error))
    print(name)
`;
const hasNova = spawnSync('/usr/bin/python3', ['-c', 'import nova.exception']).status === 0;

test('every class that we name is one of nova.exception', { skip: !hasNova && 'python3-nova is not installed' }, () => {
  const subject = { instance: 'i', volume: 'v', image: 'm', device: '/dev/sdb' };
  const codes = Object.keys(CODES) as Code[]; // Object.keys forgets the literal type
  const all = Object.keys(SUPPORT).flatMap(method =>
    codes.map(code => toRemote(new ShiftvolError(code, 'Cannot do it'), { ...subject, method })),
  );
  const unique = new Map(all.map(error => [error.className, error]));

  const { stdout, stderr, status } = spawnSync('/usr/bin/python3', ['-c', SCRIPT], {
    input: JSON.stringify([...unique.values()].map(({ className, args, kwargs }) => [className, args, kwargs])),
    encoding: 'utf8',
  });

  assert.equal(status, 0, stderr);
  assert.deepEqual(stdout.trim().split('\n').toSorted(), [...unique.keys()].toSorted());
  assert.ok(unique.size > 15);
});
