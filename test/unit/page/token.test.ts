import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { newToken, OnceLink, readToken, Token } from '../../../src/page/token.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-token-'));
after(() => rmSync(dir, { recursive: true }));
let n = 0;
const path = () => join(dir, `${n++}`);
const wrong = { code: 'SV_CONFIG', field: 'http.token_file' };

test('a token is accepted as it is, as a bearer’s, and no other', () => {
  const token = new Token('0123456789abcdef');

  assert.ok(token.isIn('Bearer 0123456789abcdef'));
  for (const header of [
    undefined,
    '',
    'Bearer',
    'Bearer ',
    '0123456789abcdef',
    'Basic 0123456789abcdef',
    'Bearer 0123456789abcdeF',
    'Bearer 0123456789abcdef0',
    `Bearer ${'x'.repeat(5000)}`,
  ])
    assert.equal(token.isIn(header), false, header);
  assert.equal(new Token('').isIn('Bearer '), false);
});

test('a link opens once', () => {
  const link = new OnceLink('the token');

  assert.equal(link.redeem('Bearer something-else-entirely'), undefined);
  assert.equal(link.redeem(`Bearer ${link.secret}`), 'the token');
  assert.equal(link.redeem(`Bearer ${link.secret}`), undefined);
});

test('a token’s file is made where there is none, for its owner alone, and stays as it is', () => {
  const file = path();

  const token = readToken(file);

  assert.match(token, /^[\w-]{32}$/);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(readToken(file), token);
  assert.equal(readFileSync(file, 'utf8'), `${token}\n`);
  assert.notEqual(newToken(), token);
});

test('a file that others may read, that is none, or that has no token in it is refused, and nothing of it is told', () => {
  const open = path();
  writeFileSync(open, 'correct-horse-battery', { mode: 0o600 });
  chmodSync(open, 0o640);
  const short = path();
  writeFileSync(short, 'hunter2', { mode: 0o600 });
  const link = path();
  symlinkSync(short, link);

  for (const file of [open, short, link, dir, join(dir, 'no', 'such')])
    assert.throws(
      () => readToken(file),
      error => {
        assert.ok(error instanceof Error);
        assert.doesNotMatch(error.message, /hunter2|correct-horse/);
        assert.deepEqual({ ...wrong }, { code: Reflect.get(error, 'code'), field: Reflect.get(error, 'field') });
        return true;
      },
      file,
    );
});
