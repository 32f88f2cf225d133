import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { parsePlace, parseVolume } from '../../../src/cli/volume-argument.ts';
import { isError } from '../../../src/errors.ts';

const file = (path: string) => ({ kind: 'file', path });
for (const [text, snapshot, expected] of [
  ['/srv/vol.raw:/mnt/data', false, { source: file('/srv/vol.raw'), target: '/mnt/data', readOnly: false }],
  ['/srv/vol.raw:/mnt/data:ro', false, { source: file('/srv/vol.raw'), target: '/mnt/data', readOnly: true }],
  ['/srv/vol.raw:/mnt/data:rw', false, { source: file('/srv/vol.raw'), target: '/mnt/data', readOnly: false }],
  ['./a:b.raw:/mnt', false, { source: file(resolve('a:b.raw')), target: '/mnt', readOnly: false }],
  ['/srv/x:/y:/mnt', false, { source: file('/srv/x:/y'), target: '/mnt', readOnly: false }],
  ['cinder:my:vol:/mnt', false, { source: { kind: 'cinder', volume: 'my:vol' }, target: '/mnt', readOnly: false }],
  ['./cinder:v:/mnt', false, { source: file(resolve('cinder:v')), target: '/mnt', readOnly: false }],
  ['web:/mnt', true, { source: { kind: 'template', template: 'web' }, target: '/mnt', readOnly: false }],
] as const)
  test(`reads ${text}`, () => assert.deepEqual(parseVolume(text, { snapshot }), expected));

for (const [text, snapshot] of [
  ['', false],
  ['/srv/vol.raw', false],
  [':/mnt', false],
  ['/srv/vol.raw:mnt', false],
  ['web:/mnt', false],
  ['cinder::/mnt', false],
  ['/srv/web:/mnt', true],
] as const)
  test(`refuses ${JSON.stringify(text)}${snapshot ? ' with --snapshot' : ''} as bad usage`, () => {
    assert.throws(
      () => parseVolume(text, { snapshot }),
      e => isError(e, 'SV_USAGE') && e.exit === 2,
    );
  });

test('a place is an instance, with or without a target', () => {
  assert.deepEqual(parsePlace('c1'), { instance: 'c1' });
  assert.deepEqual(parsePlace('c1:/mnt/a:b'), { instance: 'c1', target: '/mnt/a:b' });
});
