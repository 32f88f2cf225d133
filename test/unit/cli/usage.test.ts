import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { programFor } from '../../../src/cli/program.ts';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const LAUNCHER = fileURLToPath(new URL('../../../bin/shiftvol', import.meta.url));
const NOWHERE = ['--state-dir', '/nonexistent/state', '--run-dir', '/nonexistent/run'];

function shiftvol(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1', ...env },
  });
  return { status, stdout, stderr };
}

/** Words as an operator types them in a terminal. */
function inTerminal(args: readonly string[], env: NodeJS.ProcessEnv = {}): string {
  // Node takes a CI that it does not know for one without colours, also in a terminal.
  const { NO_COLOR: _, CI: __, ...rest } = process.env;
  const command = [process.execPath, MAIN, ...args].map(word => `'${word}'`).join(' ');
  return spawnSync('script', ['-qec', command, '/dev/null'], {
    encoding: 'utf8',
    env: { ...rest, TERM: 'xterm-256color', ...env },
  }).stdout;
}

function* leaves(command: Command): Generator<Command> {
  if (command.commands.length === 0) yield command;
  for (const below of command.commands) yield* leaves(below);
}

function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({
    writeOut: part => {
      text += part;
    },
  });
  command.outputHelp();
  return text;
}

const program = await programFor([]);
const commands = [...leaves(program)];

test('these are the commands', () => {
  const names = commands.map(c => (c.parent === program ? c.name() : `${c.parent?.name()} ${c.name()}`));
  assert.deepEqual(names, [
    'serve',
    'route',
    'attach',
    'detach',
    'spawn',
    'destroy',
    'extend',
    ...['create', 'list', 'restore', 'remove'].map(name => `snapshot ${name}`),
    'export',
    'import',
    'list',
    'show',
    'recover',
    ...['import', 'list', 'show', 'verify', 'remove'].map(name => `template ${name}`),
    ...['create', 'grow', 'status', 'remove'].map(name => `pool ${name}`),
    ...['parse', 'compose', 'check', 'alloc', 'release', 'list'].map(name => `idmap ${name}`),
    'doctor',
    'events',
    'top',
    'ui',
    ...['list', 'show', 'replay', 'drop'].map(name => `deadletter ${name}`),
    ...['check', 'show', 'schema'].map(name => `config ${name}`),
    'support-bundle',
    'completion',
    'health',
  ]);
});

describe('the help of each command', () => {
  for (const command of commands)
    test(`${command.parent?.name()} ${command.name()} says what it does, with an example, and explains each word`, () => {
      const help = helpOf(command);

      assert.match(command.description(), /^[A-Z].*\.$/s);
      assert.match(help, /\nExamples?:\n {2}shiftvol /);
      assert.match(help, /\nGlobal options:\n/);
      for (const option of command.options) assert.notEqual(option.description, '', option.flags);
      for (const argument of command.registeredArguments) assert.notEqual(argument.description, '', argument.name());
      for (const global of ['--json', '--verbose', '--config', '--state-dir', '--run-dir', '--help'])
        assert.match(help, new RegExp(`${global}\\b`));
    });
});

for (const command of commands.filter(c =>
  [
    'attach',
    'detach',
    'spawn',
    'destroy',
    'extend',
    'restore',
    'recover',
    'import',
    'remove',
    'create',
    'grow',
    'alloc',
    'release',
  ].includes(c.name()),
))
  test(`${command.parent?.name()} ${command.name()} has --dry-run, since it changes something`, () => {
    assert.ok(command.options.some(o => o.long === '--dry-run'));
  });

test('help that is asked for goes to standard output, at any depth; help that is not to standard error, with status 2', () => {
  for (const args of [['--help'], ['-h'], ['help'], ['help', 'list'], ['list', '-h'], ['help', 'template', 'import']]) {
    const { status, stdout, stderr } = shiftvol(args);
    assert.deepEqual([status, stderr], [0, ''], args.join(' '));
    assert.match(stdout, /^Usage: shiftvol /);
  }
  assert.match(shiftvol(['help', 'template', 'import']).stdout, /^Usage: shiftvol template import /);
  for (const args of [[], ['template'], ['pool'], ['idmap']]) {
    const { status, stdout, stderr } = shiftvol(args);
    assert.deepEqual([status, stdout], [2, ''], args.join(' '));
    assert.match(stderr, /^Usage: .*\nshiftvol: Cannot read the command line: a command is missing [^\n]*\n$/s);
  }
});

test('--version prints what package.json says, whatever starts it', () => {
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  assert.deepEqual(shiftvol(['--version']), { status: 0, stdout: `${version}\n`, stderr: '' });
  assert.equal(spawnSync(LAUNCHER, ['-V'], { encoding: 'utf8' }).stdout, `${version}\n`);
});

for (const [args, text] of [
  [['frobnicate'], /unknown command 'frobnicate' \("shiftvol --help" says what there is\)$/],
  [['atach', 'c1'], /unknown command 'atach' \(did you mean attach\?/],
  [['help', 'bogus'], /unknown command 'bogus'/],
  [['constructor'], /unknown command 'constructor'/],
  [['template', 'lst'], /unknown command 'lst' \(did you mean list\? "shiftvol template --help"/],
  [['list', '--jso'], /unknown option '--jso' \(did you mean --json\?/],
  [['attach', 'c1'], /missing required argument 'volume' \("shiftvol attach --help"/],
  [['list', 'a', 'b'], /too many arguments/],
  [['pool', 'create'], /required option '--size <size>'/],
  [['template', 'import', 'x', '--from', '/', '--fs', 'zfs'], /Allowed choices are ext4, xfs, btrfs/],
  [['idmap', 'alloc', 'x', '--count', '1.5'], /--count "1.5"/],
] as const)
  test(`"${args.join(' ')}" is bad usage: status 2, one line, and one document with --json`, () => {
    const { status, stdout, stderr } = shiftvol([...args, '--json']);

    assert.equal(status, 2);
    assert.match(stderr, /^shiftvol: Cannot [^\n]*\n$/);
    assert.match(stderr.trimEnd(), text);
    assert.equal(JSON.parse(stdout).error.code, 'SV_USAGE');
    assert.deepEqual(shiftvol(args), { status: 2, stdout: '', stderr });
  });

test('global options are taken before the command and after it', () => {
  const before = shiftvol([...NOWHERE, '--json', 'list']);

  assert.deepEqual(before, { status: 0, stdout: '[]\n', stderr: '' });
  assert.deepEqual(shiftvol(['list', '--json', ...NOWHERE]), before);
  assert.deepEqual(
    shiftvol(['--state-dir=/nonexistent/state', 'list', '--json', '--run-dir', '/nonexistent/run']),
    before,
  );
});

test('-v shows where an error came from', () => {
  const { stderr } = shiftvol(['-v', 'list', '--config', '/nonexistent/plugin.yaml']);

  assert.match(stderr, /^shiftvol: Cannot read the configuration [^\n]*\n/);
  assert.match(stderr, /\n {4}at .*load\.ts/);
});

test('colours are for terminals, and for those who want them', () => {
  const args = ['idmap', 'parse', 'b:0:100000:65536'];

  assert.ok(inTerminal(args).includes('\x1b[1mKIND'));
  assert.ok(!inTerminal(args, { NO_COLOR: '1' }).includes('\x1b'));
  assert.ok(!shiftvol(args, { NO_COLOR: '' }).stdout.includes('\x1b'));
  assert.ok(!inTerminal([...args, '--json']).includes('\x1b'));
});

test('a reader that has had enough is no failure', () => {
  const { status, stderr } = spawnSync(
    'sh',
    ['-c', `"$0" "$1" idmap parse b:0:100000:65536 | true; echo done >&2`, process.execPath, MAIN],
    {
      encoding: 'utf8',
    },
  );

  assert.deepEqual([status, stderr], [0, 'done\n']);
});
