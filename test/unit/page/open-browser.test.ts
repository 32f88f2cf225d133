import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openBrowser } from '../../../src/page/open-browser.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-open-'));
after(() => rmSync(dir, { recursive: true }));
const URL_ = 'http://127.0.0.1:1234/page/#once=the-secret-of-the-link';

test('a browser gets the link in a file of its person’s own, not in an argument, and the file goes', async () => {
  const program = join(dir, 'xdg-open');
  writeFileSync(
    program,
    `#!/bin/sh\ncp "$1" ${dir}/seen\nstat -c %a "$1" > ${dir}/mode\ncat /proc/$$/cmdline /proc/$PPID/cmdline /proc/$PPID/environ | tr '\\0' ' ' > ${dir}/told\n`,
  );
  chmodSync(program, 0o755);
  const env = { PATH: `${dir}:/usr/bin:/bin`, DISPLAY: ':0', XDG_RUNTIME_DIR: dir };

  assert.equal(await openBrowser(URL_, { env, keepSeconds: 0 }), true);

  assert.match(
    readFileSync(join(dir, 'seen'), 'utf8'),
    /url=http:\/\/127\.0\.0\.1:1234\/page\/#once=the-secret-of-the-link"/,
  );
  assert.equal(readFileSync(join(dir, 'mode'), 'utf8'), '600\n');
  assert.doesNotMatch(readFileSync(join(dir, 'told'), 'utf8'), /the-secret/);
  assert.deepEqual(
    readdirSync(dir).filter(name => name.endsWith('.html')),
    [],
  );
});

test('without a display, or without a way to open it, it says so', async () => {
  assert.equal(await openBrowser(URL_, { env: { PATH: '/usr/bin:/bin' } }), false);
  const env = { PATH: join(dir, 'nowhere'), DISPLAY: ':0', XDG_RUNTIME_DIR: dir };
  assert.equal(await openBrowser(URL_, { env }), false);
});
