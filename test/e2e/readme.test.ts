import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { commandsOf, readDocument } from '../rig/markdown.ts';
import { CLI, makeWorld, type World } from './world.ts';

let world: World;

before(async () => {
  world = await makeWorld({ pool: false });
  await world.lxd.launch('c1');
  mkdirSync(join(world.dir, 'web-root'));
  writeFileSync(join(world.dir, 'web-root', 'index.html'), 'hello');
  execFileSync('sh', ['-ec', 'truncate -s 64M "$1" && mke2fs -q -t ext4 "$1"', 'sh', join(world.dir, 'vol.raw')]);
});
after(async () => await world?.[Symbol.asyncDispose]());

test('the commands of README.md do what it says, in its order', () => {
  const commands = commandsOf(readDocument('README.md')).filter(line => line.startsWith('shiftvol '));
  assert.ok(commands.length > 10);
  for (const command of commands) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...command.split(' ').slice(1)], {
      cwd: world.dir,
      env: world.env,
      encoding: 'utf8',
    });
    assert.equal(status, 0, `${command}\n${stdout}${stderr}`);
  }
});
