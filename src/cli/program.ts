/** Finds the command, loads that one file, and turns what it throws into one line and an exit status. */
import { Command, CommanderError, Option } from 'commander';
import { asError, EXIT, explain, helpUrl, report, ShiftvolError } from '../errors.ts';
import type { DefineCommand } from './command.ts';

const COMMANDS: ReadonlyMap<string, () => Promise<{ readonly define: DefineCommand }>> = new Map([
  ['serve', () => import('./serve.ts')],
  ['route', () => import('./route.ts')],
  ['attach', () => import('./attach.ts')],
  ['detach', () => import('./detach.ts')],
  ['spawn', () => import('./spawn.ts')],
  ['destroy', () => import('./destroy.ts')],
  ['extend', () => import('./extend.ts')],
  ['snapshot', () => import('./snapshot.ts')],
  ['export', () => import('./export.ts')],
  ['import', () => import('./import.ts')],
  ['list', () => import('./list.ts')],
  ['show', () => import('./show.ts')],
  ['recover', () => import('./recover.ts')],
  ['template', () => import('./template.ts')],
  ['pool', () => import('./pool.ts')],
  ['idmap', () => import('./idmap.ts')],
  ['doctor', () => import('./doctor.ts')],
  ['events', () => import('./events.ts')],
  ['top', () => import('./top.ts')],
  ['ui', () => import('./ui.ts')],
  ['deadletter', () => import('./deadletter.ts')],
  ['config', () => import('./config.ts')],
  ['support-bundle', () => import('./support-bundle.ts')],
  ['completion', () => import('./completion.ts')],
  ['health', () => import('./health.ts')],
]);
/** What shells ask at the Tab key; not told of in the help. */
const COMPLETE = '__complete';
/** Global options that take a value: what follows them is not the command. */
const WITH_VALUE = new Set(['--config', '--state-dir', '--run-dir']);

/** Does what the words ask. Returns the exit status. */
export async function run(words: readonly string[]): Promise<number> {
  if (words[0] === COMPLETE) return await completeWords(words.slice(1));
  const argv = withoutHelpCommand(words);
  // `shiftvol list | head -1`: who reads has had enough, and what is being done is done all the same.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
  try {
    const program = await programFor(argv);
    await program.parseAsync(argv, { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : EXIT.done;
  } catch (error) {
    if (error instanceof CommanderError) return EXIT.done; // help or version was asked for, and printed
    // Where it is explained: for a program always, for a person where he asks for more.
    const help = helpUrl(asError(error).code);
    const isVerbose = isAsked(argv, '-v') || isAsked(argv, '--verbose');
    if (isAsked(argv, '--json')) process.stdout.write(`${JSON.stringify({ error: { ...report(error), help } })}\n`);
    process.stderr.write(`shiftvol: ${explain(error)}${isVerbose ? ` [${help}]` : ''}\n`);
    if (isVerbose) console.error(error);
    return asError(error).exit;
  }
}

/** Says what could be the last word. */
async function completeWords(words: readonly string[]): Promise<number> {
  const { complete, show } = await import('./complete.ts');
  // Once the command has been written, its file alone is needed.
  const named = commandAt(words) < words.length - 1 ? words : [];
  process.stdout.write(show(await complete(await programFor(named), words)));
  return EXIT.done;
}

/** The program with its commands: the one that is named, or all of them. */
export async function programFor(argv: readonly string[]): Promise<Command> {
  const program = new Command('shiftvol')
    .description('Block-device file systems for unprivileged containers in milliseconds, with the right owners.')
    .option('--json', 'print one JSON document on standard output, errors too')
    .option('-v, --verbose', 'print the log, and where an error came from')
    .option('--config <file>', 'configuration (default: /etc/shiftvol/plugin.yaml, else the packaged one)')
    .option('--state-dir <dir>', 'directory of the journal (default: /var/lib/shiftvol)')
    .option('--run-dir <dir>', 'directory of sockets and mounts (default: /run/shiftvol)')
    .addHelpText(
      'after',
      '\nExit status: 0 done, 1 failed, 2 bad usage or input, 3 not found, 4 busy or conflict, 5 this host lacks something.',
    );
  const globals = program.options.map(({ flags, description }) => [flags, description] as const);
  program.version(await version(argv));
  const name = commandOf(argv);
  const chosen = name === undefined ? undefined : COMMANDS.get(name);
  const modules = chosen ? [await chosen()] : await Promise.all([...COMMANDS.values()].map(load => load()));
  for (const command of modules) command.define(program);
  finish(program, globals);
  return program;
}

/**
 * What all commands have alike: their summary above their help, the global options after their name too, where people write them, and
 * errors as every other error is told.
 */
function finish(command: Command, globals: readonly (readonly [flags: string, description: string])[]): void {
  if (command.description() === '') command.description(sentence(command.summary()));
  if (command.parent) {
    for (const [flags, text] of globals) command.addOption(new Option(flags, text).helpGroup('Global options:'));
    command.addHelpOption(new Option('-h, --help', 'display help for command').helpGroup('Global options:'));
  }
  command.configureOutput({ outputError: () => {} }).exitOverride(error => {
    throw error.exitCode === 0 ? error : usageError(command, error);
  });
  for (const below of command.commands) finish(below, globals);
}

function usageError(command: Command, error: CommanderError): ShiftvolError {
  const names: string[] = [];
  for (let c: Command | null = command; c !== null; c = c.parent) names.unshift(c.name());
  const help = `"${names.join(' ')} --help" says what there is`;
  const [, what, meant] = /^error: (.*?)(?:\n\(Did you mean (.*)\?\))?$/s.exec(error.message) ?? [];
  const text = error.code === 'commander.help' ? 'a command is missing' : (what ?? error.message);
  return new ShiftvolError('SV_USAGE', `Cannot read the command line: ${text}`, {
    remedy: meant === undefined ? help : `did you mean ${meant}? ${help}`,
  });
}

function commandOf(argv: readonly string[]): string | undefined {
  return argv[commandAt(argv)];
}

/** Beyond the end where there is none. */
function commandAt(argv: readonly string[]): number {
  let at = 0;
  while (at < argv.length && argv[at]?.startsWith('-')) at += WITH_VALUE.has(argv[at] ?? '') ? 2 : 1;
  return at;
}

/** `help template import` is `template import --help`, at any depth; and of what is no command there is no help, but an error. */
function withoutHelpCommand(argv: readonly string[]): readonly string[] {
  const at = commandAt(argv);
  if (argv[at] === 'help') return withoutHelpCommand([...argv.toSpliced(at, 1), '--help']);
  const name = argv[at];
  return name === undefined || COMMANDS.has(name) ? argv : argv.filter(word => word !== '--help' && word !== '-h');
}

/** What stands after `--` are arguments. */
function isAsked(argv: readonly string[], option: string): boolean {
  const end = argv.indexOf('--');
  return (end < 0 ? argv : argv.slice(0, end)).includes(option);
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

async function version(argv: readonly string[]): Promise<string> {
  if (!isAsked(argv, '--version') && !isAsked(argv, '-V')) return '';
  const { readFileSync } = await import('node:fs');
  return String(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version);
}
