/** The manual: all that --help has is in it, and man(1) has nothing to complain of. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { leaves, manualPages } from '../../../build/man.ts';
import { programFor } from '../../../src/cli/program.ts';

const pages = await manualPages();
const program = await programFor([]);

/** As a person reads it, in one line. */
function read(name: string): string {
  const { stdout, status, stderr } = spawnSync('groff', ['-man', '-Tutf8', '-P-cbou', '-rLL=2000n', '-K', 'utf8'], {
    input: pages.get(name) ?? '',
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
  return stdout.replace(/\s+/g, ' ').replaceAll('−', '-').replaceAll('‐', '-');
}
const oneLine = (text: string) => text.replace(/\s+/g, ' ').trim();

test('each command has a page, and the program names them all', { skip: !existsSync('/usr/bin/groff') }, () => {
  assert.deepEqual(
    [...pages.keys()].toSorted(),
    ['shiftvol.1', ...program.commands.map(c => `shiftvol-${c.name()}.1`)].toSorted(),
  );
  const text = read('shiftvol.1');
  for (const command of program.commands) assert.ok(text.includes(oneLine(command.summary())), command.name());
  assert.match(text, /EXIT STATUS 0 done, 1 failed/);
});

for (const [words, command] of leaves(program))
  test(`"${words.join(' ')}" is in the manual with its arguments and options`, {
    skip: !existsSync('/usr/bin/groff'),
  }, () => {
    const text = read(`shiftvol-${words[1]}.1`);

    assert.ok(text.includes(words.join(' ')), 'its name');
    assert.ok(text.includes(oneLine(command.description())), 'its description');
    for (const { flags, description } of command.options) {
      assert.ok(text.includes(flags), flags);
      assert.ok(text.includes(oneLine(description)), description);
    }
    for (const argument of command.registeredArguments)
      assert.ok(text.includes(oneLine(argument.description)), argument.name());
  });

test('what stands below the help is there, with its examples line by line', {
  skip: !existsSync('/usr/bin/groff'),
}, () => {
  assert.match(
    read('shiftvol-attach.1'),
    /Examples: shiftvol attach c1 web:\/mnt\/data --snapshot shiftvol attach c1 \/srv/,
  );
  assert.match(read('shiftvol-serve.1'), /It recovers first, then listens on RUN_DIR\/agent\.sock/);
});

test('no page has a fault', { skip: !existsSync('/usr/bin/mandoc') && 'mandoc is not installed' }, () => {
  for (const [name, input] of pages) {
    const { stdout } = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning'], { input, encoding: 'utf8' });
    assert.equal(stdout, '', name);
  }
});
