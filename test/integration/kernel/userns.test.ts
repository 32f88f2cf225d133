import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createUserNamespace } from '../../../src/kernel/userns.ts';

const MAP = { uid: '0 200000 65536\n', gid: '100000 300000 65536\n' };

test('a user namespace has the maps that it was made with', () => {
  using namespace = createUserNamespace(MAP);
  const shown = (file: string) =>
    execFileSync(
      'nsenter',
      ['--preserve-credentials', `--user=/proc/${process.pid}/fd/${namespace.fd}`, 'cat', `/proc/self/${file}`],
      {
        encoding: 'utf8',
      },
    );
  assert.deepEqual(shown('uid_map').trim().split(/\s+/), ['0', '200000', '65536']);
  assert.deepEqual(shown('gid_map').trim().split(/\s+/), ['100000', '300000', '65536']);
});

test('maps of 340 lines are taken; what the kernel cannot take is told', () => {
  const lines = Array.from({ length: 340 }, (_, i) => `${i * 2} ${70000 + i * 2} 1`).join('\n');
  createUserNamespace({ uid: lines, gid: lines })[Symbol.dispose]();
  for (const bad of [
    '0 200000 0\n',
    '0 200000 10\n5 300000 10\n',
    '0 4294967290 10\n',
    'x\n',
    `${lines}\n9999 99999 1\n`,
  ])
    assert.throws(() => createUserNamespace({ ...MAP, uid: bad }), {
      call: 'write',
      errnoName: 'EINVAL',
      object: 'uid_map',
    });
});

test('a thousand of them leave no process and no descriptor behind, and disturb no child process', async () => {
  const before = readdirSync('/proc/self/fd').length;
  const children = Array.from({ length: 10 }, () => spawn('true', { stdio: 'ignore' }));
  const exits = children.map(child => new Promise(resolve => child.once('exit', resolve)));
  for (let i = 0; i < 1000; i++) createUserNamespace(MAP)[Symbol.dispose]();

  assert.deepEqual(
    await Promise.all(exits),
    children.map(() => 0),
  );
  assert.equal(readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim(), '');
  assert.equal(readdirSync('/proc/self/fd').length, before);
});
