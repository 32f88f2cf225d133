import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { CODES } from '../../../src/errors.ts';

const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');

test('README.md lists exactly the error codes there are, with exit status and meaning', () => {
  const rows = [...readme.matchAll(/^\| <a id="(\w+)"><\/a>`(SV_\w+)` \| (\d) \| (.*) \|$/gm)].map(
    ([, anchor, code, exit, means]) => [anchor, code, Number(exit), means],
  );
  assert.deepEqual(
    rows,
    Object.entries(CODES).map(([code, { exit, means }]) => [code.toLowerCase(), code, exit, means]),
  );
});
