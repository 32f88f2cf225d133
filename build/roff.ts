/** A manual page, as man(7) has them, of one command with all below it. Pure. */
import type { Argument, Command, Option } from 'commander';

export type PageFacts = { readonly version: string; readonly date: string };
/** Today, or where a build is to be reproducible what it is told. */
export const PAGE_DATE = new Date(Number(process.env['SOURCE_DATE_EPOCH'] ?? Date.now() / 1000) * 1000)
  .toISOString()
  .slice(0, 10);

const GLOBAL = 'Global options:';

export function page(command: Command, { version, date }: PageFacts): string {
  const names = wordsOf(command);
  const name = names.join('-');
  const isProgram = command.parent === null;
  const summary = isProgram ? command.description() : command.summary() || command.description();
  return [
    `.TH ${name.toUpperCase().replaceAll('-', '\\-')} 1 "${date}" "shiftvol ${version}" "shiftvol"`,
    '.SH NAME',
    `${text(name)} \\- ${text(summary.replace(/\.$/, ''))}`,
    '.SH SYNOPSIS',
    ...synopses(command),
    '.SH DESCRIPTION',
    ...paragraphs(command.description()),
    ...own(command, '.SH'),
    ...[...below(command)].flatMap(c => [
      `.SS ${text(wordsOf(c).slice(1).join(' '))}`,
      ...paragraphs(c.description()),
      ...own(c, '.PP\n.B'),
    ]),
    ...(isProgram ? programSections(command) : globalOptions(command)),
    '.SH SEE ALSO',
    seeAlso(command),
    '',
  ]
    .join('\n')
    .replace(/^(\.S[HS] .*)\n(?:\.PP\n)+/gm, '$1\n');
}

/** Commands below that do something; of the program those have pages of their own. */
function* below(command: Command): Generator<Command> {
  if (command.parent === null) return;
  for (const c of command.commands) {
    yield c;
    yield* below(c);
  }
}

function synopses(command: Command): readonly string[] {
  if (command.parent === null) return ['.B shiftvol', '[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]'];
  const all = command.commands.length === 0 ? [command] : [...below(command)].filter(c => c.commands.length === 0);
  return all.flatMap((c, i) => [
    ...(i === 0 ? [] : ['.br']),
    `.B ${text(wordsOf(c).join(' '))}`,
    ...[
      ...c.options.filter(o => o.mandatory).map(o => `\\fB${text(o.long ?? '')}\\fR ${value(o)}`),
      '[\\fIoptions\\fR]',
    ],
    ...c.registeredArguments.map(synopsisOf),
  ]);
}

const synopsisOf = (a: Argument): string => {
  const name = `\\fI${text(a.name())}\\fR${a.variadic ? '...' : ''}`;
  return a.required ? name : `[${name}]`;
};
const value = (o: Option): string => `\\fI${text(/[<[]([^>\]]+)[>\]]/.exec(o.flags)?.[1] ?? '')}\\fR`;

/** Arguments, options and what stands below the help. `heading`: the macro for a title. */
function own(command: Command, heading: string): readonly string[] {
  const args = command.registeredArguments;
  const options = command.options.filter(o => o.helpGroupHeading !== GLOBAL && !o.hidden);
  const title = (words: string) => `${heading} ${heading === '.SH' ? words.toUpperCase() : words}`;
  return [
    ...(args.length === 0
      ? []
      : [title('Arguments'), ...args.flatMap(a => item(`\\fI${text(a.name())}\\fR`, argumentText(a)))]),
    ...(options.length === 0 ? [] : [title('Options'), ...options.flatMap(o => item(flags(o.flags), optionText(o)))]),
    ...(command.parent === null ? [] : notes(afterHelp(command))),
  ];
}

const globalOptions = (command: Command): readonly string[] => [
  '.SH GLOBAL OPTIONS',
  ...command.options.filter(o => o.helpGroupHeading === GLOBAL).flatMap(o => item(flags(o.flags), optionText(o))),
  ...item(flags('-h, --help'), 'display help'),
];

function programSections(program: Command): readonly string[] {
  return [
    '.SH COMMANDS',
    ...program.commands.flatMap(c => item(`\\fBshiftvol\\-${text(c.name())}\\fR(1)`, c.summary())),
    '.SH EXIT STATUS',
    ...paragraphs(afterHelp(program).replace(/^\s*Exit status: /, '')),
    '.SH FILES',
    ...item(
      '/etc/shiftvol/plugin.yaml',
      'the configuration: a key that is left out has its default. The file of the package says what each means',
    ),
    ...item('/var/lib/shiftvol', 'the journal, and the pool with templates and snapshots'),
    ...item('/run/shiftvol', 'the socket of the agent, and the mounts'),
    '.SH ENVIRONMENT',
    ...item('SHIFTVOL_CONFIG', 'the configuration file'),
    ...item('SHIFTVOL_TRANSPORT_URL', 'the broker, in place of bus.url and bus.listen'),
    ...item('NO_COLOR', 'no colours'),
    '.PP',
    'The comments of plugin.yaml name the others.',
  ];
}

function seeAlso(command: Command): string {
  const program = rootOf(command);
  const others = command.parent === null ? [] : ['shiftvol'];
  const siblings = program.commands.filter(c => c !== topOf(command)).map(c => `shiftvol-${c.name()}`);
  return [...others, ...siblings].map(n => `\\fB${text(n)}\\fR(1)`).join(',\n');
}

function rootOf(command: Command): Command {
  return command.parent === null ? command : rootOf(command.parent);
}
function topOf(command: Command): Command {
  return command.parent === null || command.parent.parent === null ? command : topOf(command.parent);
}

function wordsOf(command: Command): readonly string[] {
  return command.parent === null ? [command.name()] : [...wordsOf(command.parent), command.name()];
}

const argumentText = (a: Argument): string => withChoices(a.description, a.argChoices);
const optionText = (o: Option): string =>
  withChoices(o.description, o.argChoices) + (o.mandatory ? ' (required)' : '') + defaultText(o);
const withChoices = (words: string, choices: readonly string[] | undefined): string =>
  choices ? `${words} (one of ${choices.join(', ')})` : words;
const defaultText = ({ defaultValue, description }: Option): string =>
  typeof defaultValue === 'string' && !description.includes('(default') ? ` (default: ${defaultValue})` : '';

/** `-v, --verbose`, the names bold and the values not. */
const flags = (words: string): string => text(words).replace(/(^|, )((?:\\-)+[a-zA-Z0-9\\-]+)/g, '$1\\fB$2\\fR');

/** What a command says below its help. */
function afterHelp(command: Command): string {
  const { writeOut, writeErr } = command.configureOutput();
  let all = '';
  command.configureOutput({
    writeOut: words => {
      all += words;
    },
  });
  const help = command.helpInformation();
  command.outputHelp();
  command.configureOutput({ ...(writeOut && { writeOut }), ...(writeErr && { writeErr }) });
  return all.slice(help.length).trim();
}

/** Examples keep their lines; all else flows. */
function notes(words: string): readonly string[] {
  return words.split(/\n(?=Examples?:)/).flatMap(part => {
    const [, examples] = /^Examples?:\n(.*)$/s.exec(part) ?? [];
    if (examples === undefined) return paragraphs(part);
    return [
      '.PP',
      'Examples:',
      '.PP',
      '.nf',
      '.RS',
      ...examples.replace(/^ {2}/gm, '').split('\n').map(text),
      '.RE',
      '.fi',
    ];
  });
}

const paragraphs = (words: string): readonly string[] =>
  words.trim() === ''
    ? []
    : words
        .trim()
        .split(/\n\n+/)
        .flatMap(p => ['.PP', ...p.split('\n').map(line => text(line.trim()))]);

const item = (term: string, words: string): readonly string[] => ['.TP', term, ...words.split('\n').map(text)];

/** Nothing in it is taken for a request, a hyphen is one that can be copied. */
function text(words: string): string {
  return words
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replace(/^(?=[.'])/gm, '\\&');
}
