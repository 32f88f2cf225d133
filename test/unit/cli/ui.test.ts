import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));

test('ui listens for this host alone', () => {
  for (const address of [
    '0.0.0.0:8080',
    '192.0.2.1:8080',
    'localhost:8080',
    '127.0.0.1',
    '127.0.0.1:http',
    '[::]:80',
  ]) {
    const { status, stderr } = spawnSync(process.execPath, [CLI, 'ui', '--listen', address], { encoding: 'utf8' });
    assert.equal(status, 2, address);
    assert.match(stderr, /127\.0\.0\.1:PORT and \[::1\]:PORT are accepted/);
  }
});
