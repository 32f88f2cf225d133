import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { CODES } from '../../src/errors.ts';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

test('README.md lists exactly the error codes there are, with exit status and meaning', () => {
  const rows = [...readme.matchAll(/^\| <a id="(\w+)"><\/a>`(SV_\w+)` \| (\d) \| (.*) \|$/gm)].map(
    ([, anchor, code, exit, means]) => [anchor, code, Number(exit), means],
  );
  assert.deepEqual(
    rows,
    Object.entries(CODES).map(([code, { exit, means }]) => [code.toLowerCase(), code, exit, means]),
  );
});

test('README.md names only scripts that package.json has', () => {
  const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const named = [...readme.matchAll(/npm (?:run (?:--silent )?)?([a-z][a-z0-9:]+)/g)]
    .map(([, name]) => name ?? '')
    .filter(name => name !== 'ci');
  assert.ok(named.length > 3);
  for (const name of named) assert.ok(name in scripts, name);
});
