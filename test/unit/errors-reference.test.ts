import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ERRORS_FILE, errorReference } from '../../build/errors.ts';
import { leaves } from '../../build/man.ts';
import { programFor } from '../../src/cli/program.ts';
import { CODES, type Code, helpUrl } from '../../src/errors.ts';

const codes = Object.keys(CODES) as Code[]; // Object.keys forgets the literal type
const text = readFileSync(ERRORS_FILE, 'utf8');

test('deploy/ERRORS.md is what the table of codes says', () => {
  assert.equal(text, errorReference(), 'run "node build/errors.ts"');
});

test('each code has one place there, and its address leads to it', () => {
  const anchors = [...text.matchAll(/<a id="(\w+)"><\/a>(\w+)$/gm)].map(([, anchor, code]) => [code, anchor] as const);
  assert.deepEqual(new Map(anchors), new Map(codes.map(code => [code, code.toLowerCase()])));
  assert.equal(anchors.length, codes.length);
  for (const code of codes) assert.equal(helpUrl(code), `deploy/ERRORS.md#${code.toLowerCase()}`);
});

test('each says what to do, and the commands that it names exist', async () => {
  const known = new Set([...leaves(await programFor([]))].map(([words]) => words.join(' ')));
  for (const code of codes) {
    const { todo } = CODES[code];
    assert.ok(todo.length > 15 && !todo.endsWith('.'), code);
    for (const [, command = ''] of todo.matchAll(/`(shiftvol(?: [a-z][a-z-]*)+)/g))
      assert.ok(known.has(command), `${code}: ${command}`);
  }
});
