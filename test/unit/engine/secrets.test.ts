import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { Secrets } from '../../../src/engine/secrets.ts';

test('secrets are seen by nobody who prints, serializes or inspects them', () => {
  const secrets = new Secrets({ chapPassword: 'geheim' });
  const shown = [
    JSON.stringify({ secrets }),
    `${secrets}`,
    inspect({ secrets }, { depth: 9, showHidden: true }),
    Object.keys(secrets),
  ];
  assert.doesNotMatch(shown.join(' '), /geheim|chapPassword/);
  assert.equal(secrets.get('chapPassword'), 'geheim');
});

test('secrets take more of them', () => {
  const secrets = new Secrets({ a: '1', b: '2' }).with({ b: '3' });
  assert.deepEqual(secrets.reveal(), { a: '1', b: '3' });
  assert.equal(new Secrets().isEmpty, true);
});
