#!/usr/bin/env node
/** `shiftvol`: finds the command, loads that one file, and turns what it throws into one line and an exit status. */
import { enableCompileCache } from 'node:module';
import type { DefineCommand } from './command.ts';

enableCompileCache?.();

const COMMANDS: Readonly<Record<string, () => Promise<{ readonly define: DefineCommand }>>> = {
  serve: () => import('./serve.ts'),
  attach: () => import('./attach.ts'),
  detach: () => import('./detach.ts'),
  spawn: () => import('./spawn.ts'),
  destroy: () => import('./destroy.ts'),
  list: () => import('./list.ts'),
  show: () => import('./show.ts'),
  recover: () => import('./recover.ts'),
  template: () => import('./template.ts'),
  pool: () => import('./pool.ts'),
  idmap: () => import('./idmap.ts'),
  doctor: () => import('./doctor.ts'),
};
/** Global options that take a value: what follows them is not the command. */
const WITH_VALUE = new Set(['--config', '--state-dir', '--run-dir']);

async function main(argv: readonly string[]): Promise<number> {
  const { Command, CommanderError } = await import('commander');
  const { explain, asError, report } = await import('../errors.ts');
  const program = new Command('shiftvol')
    .description('Block-device file systems for unprivileged containers in milliseconds, with the right owners.')
    .option('--json', 'print JSON')
    .option('-v, --verbose', 'print the log, and where an error came from')
    .option('--config <file>', 'configuration (default: /etc/shiftvol/plugin.yaml, else the packaged one)')
    .option('--state-dir <dir>', 'directory of the journal (default: /var/lib/shiftvol)')
    .option('--run-dir <dir>', 'directory of sockets and mounts (default: /run/shiftvol)')
    .version(await version(argv))
    .showHelpAfterError('(add --help for how it is used)')
    .exitOverride()
    .addHelpText(
      'after',
      '\nExit status: 0 done, 1 failed, 2 bad usage or input, 3 not found, 4 busy or conflict, 5 this host lacks something.',
    );
  const name = commandOf(argv);
  const chosen = name === undefined ? undefined : COMMANDS[name];
  const modules = chosen ? [await chosen()] : await Promise.all(Object.values(COMMANDS).map(load => load()));
  for (const { define } of modules) define(program);
  inherit(program);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 || error.code === 'commander.help' ? 0 : 2;
    const json = argv.includes('--json');
    if (json) process.stdout.write(`${JSON.stringify({ error: report(error) })}\n`);
    process.stderr.write(`shiftvol: ${explain(error)}\n`);
    if (argv.includes('-v') || argv.includes('--verbose')) console.error(error);
    return asError(error).exit;
  }
}

function commandOf(argv: readonly string[]): string | undefined {
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? '';
    if (WITH_VALUE.has(word)) i++;
    else if (!word.startsWith('-')) return word === 'help' ? undefined : word;
  }
  return undefined;
}

type Program = import('commander').Command;

/** Global options are taken after the command's name too, where people write them. */
function inherit(program: Program): void {
  const globals = program.options.filter(o => o.long !== '--version');
  const add = (command: Program): void => {
    for (const option of globals) if (!command.options.some(o => o.long === option.long)) command.addOption(option);
    command.exitOverride();
    command.commands.forEach(add);
  };
  program.commands.forEach(add);
}

async function version(argv: readonly string[]): Promise<string> {
  if (!argv.includes('--version') && !argv.includes('-V')) return '';
  const { readFileSync } = await import('node:fs');
  return String(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version);
}

process.exitCode = await main(process.argv.slice(2));
