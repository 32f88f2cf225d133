/** The schema for editors says what the readers say; Python's jsonschema is the judge. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { load } from 'js-yaml';
import { pluginJsonSchema } from '../../../src/config/json-schema.ts';
import { PACKAGED_CONFIG } from '../../../src/config/packaged.ts';
import { schema } from '../../../src/config/schema.ts';

const JUDGE = `
import json, sys, warnings
from jsonschema import Draft7Validator
given = json.load(sys.stdin)
Draft7Validator.check_schema(given['schema'])
judge = Draft7Validator(given['schema'])
print(json.dumps([judge.is_valid(v) for v in given['values']]))`;
const missing = spawnSync('python3', ['-c', 'import jsonschema']).status !== 0 && 'python3-jsonschema is not installed';

function judge(values: readonly unknown[]): readonly boolean[] {
  const { stdout, stderr } = spawnSync('python3', ['-c', JUDGE], {
    input: JSON.stringify({ schema: pluginJsonSchema(), values }),
    encoding: 'utf8',
  });
  assert.notEqual(stdout, '', stderr);
  return JSON.parse(stdout);
}
function read(value: unknown): boolean {
  try {
    schema(value, []);
    return true;
  } catch {
    return false;
  }
}

test('what the readers take it takes, and what they refuse it refuses', { skip: missing }, () => {
  const uuid = '83322272-3c67-43d5-a690-6a6d28d71604';
  const values = [
    load(readFileSync(PACKAGED_CONFIG, 'utf8')),
    {},
    { bus: null, parallel: null },
    { parallel: 1024, bus: { listen: ['rabbit://u:p@h/'], max_message: '10MiB' } },
    { bindings: { volumes: [{ volume: uuid, template: 'web', size: '1GiB' }] } },
    { bindings: { volumes: [{ volume: '*', device: '/dev/{volume_id}', target: '/mnt' }] } },
    { paralel: 1 },
    { parallel: 0 },
    { parallel: 'many' },
    { state_dir: 'relative' },
    { bus: [] },
    { bus: { listen: ['http://h/'] } },
    { bus: { source: 'nobody' } },
    { bus: { max_message: '10 GB' } },
    { bus: { exchanges: [{ topics: ['x'] }] } },
    { bindings: { events: { 'instance.create.strat': true } } },
    { bindings: { events: { 'instance.create.start': 'yes' } } },
    { bindings: { volumes: [{ volume: '*' }] } },
    { bindings: { volumes: [{ volume: '*', template: 'a', file: '/b' }] } },
    { bindings: { volumes: [{ volume: 'no-uuid', template: 'a' }] } },
  ];
  const verdicts = judge(values);
  assert.deepEqual(
    values.map((value, i) => [value, verdicts[i]]).slice(1),
    values.map(value => [value, read(value)]).slice(1),
  );
  assert.deepEqual([verdicts[0], read(values[0])], [true, true]);
});

test('it explains keys in the words of plugin.yaml', () => {
  const text = JSON.stringify(pluginJsonSchema());
  assert.match(text, /Ids that an instance gets, 1 to 4294901760\./);
  assert.match(text, /"prefetch":\{[^}]*Messages that are worked on at the same time/);
});
