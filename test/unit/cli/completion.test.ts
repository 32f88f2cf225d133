/** Completion: what is proposed, and that the three shells do propose it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'shiftvol-completion-'));
const ATTACHED = [
  { id: 'aaaa1111', instance: 'c1', target: '/mnt/data', state: 'attached' },
  { id: 'bbbb2222', instance: 'c1', target: '/mnt/log', state: 'attached' },
  { id: 'cccc3333', instance: 'db', target: '/mnt/data', state: 'detaching' },
];
/** The list of an agent, and the instances of a runtime. */
const agent = createServer((request, response) => {
  request.resume();
  response.end(
    JSON.stringify(
      request.url?.startsWith('/1.0/instances?project=default')
        ? { metadata: ['/1.0/instances/c1', '/1.0/instances/fresh'] }
        : { result: ATTACHED },
    ),
  );
});
const env = {
  PATH: `${dir}/bin:${process.env['PATH']}`,
  HOME: dir,
  SHIFTVOL_RUN_DIR: dir,
  SHIFTVOL_STATE_DIR: dir,
  SHIFTVOL_LXD_SOCKET: join(dir, 'agent.sock'),
};

before(async () => {
  agent.listen(join(dir, 'agent.sock'));
  await once(agent, 'listening');
  for (const path of ['bin', 'pool/templates/web', 'pool/templates/.lock', 'pool/saved/aaaa1111/monday'])
    mkdirSync(join(dir, path), { recursive: true });
  writeFileSync(join(dir, 'bin/shiftvol'), `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
  chmodSync(join(dir, 'bin/shiftvol'), 0o755);
});
after(() => {
  agent.close();
  rmSync(dir, { recursive: true });
});

async function run(command: string, ...args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { env, cwd: dir, stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', chunk => {
    text += chunk;
  });
  const [status] = await once(child, 'close');
  assert.equal(status, 0, `${command} ${args.join(' ')}`);
  return text;
}
async function complete(...words: readonly string[]): Promise<readonly string[]> {
  const text = await run(process.execPath, MAIN, '__complete', ...words);
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => line.split('\t')[0] ?? '');
}

for (const [words, expected] of [
  [['snap'], ['snapshot']],
  [
    ['snapshot', 're'],
    ['restore', 'remove'],
  ],
  [
    ['detach', ''],
    ['c1', 'db'],
  ],
  [
    ['--json', 'detach', ''],
    ['c1', 'db'],
  ],
  [['--run-dir', '/nonexistent', 'detach', ''], []],
  [
    ['attach', ''],
    ['c1', 'db', 'fresh'],
  ],
  [
    ['detach', 'c1', ''],
    ['/mnt/data', '/mnt/log'],
  ],
  [
    ['show', 'c1:'],
    ['c1:/mnt/data', 'c1:/mnt/log'],
  ],
  [['show', 'bb'], ['bbbb2222']],
  [['spawn', 'x', ''], ['web']],
  [['template', 'show', ''], ['web']],
  [['template', 'import', ''], []],
  [
    ['attach', 'c1', '--snapshot', ''],
    ['web:/', ':files'],
  ],
  [['snapshot', 'restore', 'c1:/mnt/data', ''], ['monday']],
  [['export', 'c1:/mnt/data', '--since', ''], ['monday']],
  [
    ['template', 'import', 'x', '--fs', ''],
    ['ext4', 'xfs', 'btrfs'],
  ],
  [['template', 'import', 'x', '--fs=e'], ['--fs=ext4']],
  [['list', '--config', ''], [':files']],
  [['completion', 'f'], ['fish']],
  [['nonsense', ''], []],
] as const)
  test(`after "${words.join(' ')}" there is ${expected.join(' ') || 'nothing'}`, async () => {
    assert.deepEqual(await complete(...words), expected);
  });

test('what cannot be found out is no error and takes no time', async () => {
  const started = performance.now();
  assert.deepEqual(await complete('--config', '/nonexistent', 'detach', ''), []);
  assert.ok(performance.now() - started < 3000);
});

test('bash proposes it, also behind a colon, where it breaks words', async () => {
  await run('sh', '-c', 'shiftvol completion bash > bash.sh');
  const ask = (line: string) =>
    run(
      'bash',
      '-c',
      `. ./bash.sh; COMP_LINE=$1; COMP_POINT=\${#1}; _shiftvol 2>/dev/null; printf "%s\\n" "\${COMPREPLY[@]}"`,
      'bash',
      line,
    );

  assert.equal(await ask('shiftvol snap'), 'snapshot\n');
  assert.equal(await ask('shiftvol detach '), 'c1\ndb\n');
  assert.equal(await ask('shiftvol show c1:/mnt/d'), '/mnt/data\n');
  assert.match(await ask('shiftvol list --config ba'), /^bash\.sh\n$/);
});

test('fish proposes it', { skip: !existsSync('/usr/bin/fish') && 'fish is not installed' }, async () => {
  await run('sh', '-c', 'shiftvol completion fish > shiftvol.fish');
  const ask = (line: string) => run('fish', '-N', '-c', 'source shiftvol.fish; complete -C $argv[1]', line);

  assert.match(await ask('shiftvol snap'), /^snapshot\tsave what/);
  assert.deepEqual((await ask('shiftvol show c1:')).trim().split('\n').toSorted(), [
    'c1:/mnt/data\tattached',
    'c1:/mnt/log\tattached',
  ]);
});

test('zsh proposes it', { skip: !existsSync('/usr/bin/zsh') && 'zsh is not installed' }, async () => {
  await run('sh', '-c', 'shiftvol completion zsh > _shiftvol');
  // The completion system's own builtins are there in an interactive shell alone: what it would be given is printed.
  const ask = (...words: readonly string[]) =>
    run(
      'zsh',
      '-fc',
      `compadd() { print -rl -- "\${(@P)@[-1]}" }; _files() { print files }; compdef() {}; . ./_shiftvol; words=("$@"); CURRENT=$#; _shiftvol`,
      'zsh',
      'shiftvol',
      ...words,
    );

  assert.equal(await ask('snap'), 'snapshot\n');
  assert.equal(await ask('show', 'c1:'), 'c1:/mnt/data\nc1:/mnt/log\n');
  assert.equal(await ask('list', '--config', ''), 'files\n');
});
