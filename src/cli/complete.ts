/** What could stand at the end of a command line: `shiftvol __complete WORD...`, which shells call at the Tab key. */
import type { Argument, Command, Option } from 'commander';
import type { GlobalOptions } from './command.ts';
import { names } from './complete-names.ts';

/** One a line, its explanation behind a tab; after them, for the shell's own completion of paths, `:files`. */
export type Candidate = { readonly word: string; readonly about?: string };
export type Candidates = { readonly words: readonly Candidate[]; readonly files: boolean };

/** Values that are paths. */
const PATHS = new Set(['file', 'dir', 'source', 'volume']);

/** `words`: what follows `shiftvol`, the last one being what is written just now, maybe "". Never fails: then there is nothing. */
export async function complete(program: Command, words: readonly string[]): Promise<Candidates> {
  const writing = words.at(-1) ?? '';
  const { command, options, given, expects } = follow(program, words.slice(0, -1));
  const equals = /^(--[a-z-]+)=/.exec(writing);
  const option = expects ?? (equals ? command.options.find(o => o.long === equals[1]) : undefined);
  if (option) {
    const start = equals?.[0] ?? '';
    const { words: values, files } = await valuesOf(option, { command, options, given, writing });
    return only(writing, { words: values.map(v => ({ ...v, word: start + v.word })), files });
  }
  if (writing.startsWith('-')) return only(writing, { words: optionsOf(command), files: false });
  if (command.commands.length > 0)
    return only(writing, { words: given.length === 0 ? commandsOf(command) : [], files: false });
  const argument = command.registeredArguments[given.length] ?? command.registeredArguments.findLast(a => a.variadic);
  if (!argument) return { words: [], files: false };
  return only(writing, await valuesOf(argument, { command, options, given, writing }));
}

export function show({ words, files }: Candidates): string {
  const lines = words.map(({ word, about }) => (about === undefined ? word : `${word}\t${about}`));
  return [...lines, ...(files ? [':files'] : [])].map(line => `${line}\n`).join('');
}

/** The innermost command that `words` name, what was given to it, and the option whose value is still to come. */
function follow(program: Command, words: readonly string[]) {
  let command = program;
  const given: string[] = [];
  const options = new Map<string, string>();
  let expects: Option | undefined;
  for (const word of words) {
    if (expects) {
      options.set(expects.attributeName(), word);
      expects = undefined;
      continue;
    }
    if (word.startsWith('-')) {
      const [name = '', value] = word.split('=', 2);
      const option = command.options.find(o => o.long === name || o.short === name);
      if (option && (option.required || option.optional) && value === undefined) expects = option;
      else if (option) options.set(option.attributeName(), value ?? 'true');
      continue;
    }
    const below = command.commands.find(c => c.name() === word);
    if (below && given.length === 0) command = below;
    else given.push(word);
  }
  return { command, options, given, expects };
}

export type Asked = {
  readonly command: Command;
  readonly options: ReadonlyMap<string, string>;
  readonly given: readonly string[];
  readonly writing: string;
};

async function valuesOf(of: Argument | Option, asked: Asked): Promise<Candidates> {
  if (of.argChoices) return { words: of.argChoices.map(word => ({ word })), files: false };
  const what = 'flags' in of ? (/[<[]([a-z:-]+)[>\]]/.exec(of.flags)?.[1] ?? '') : of.name();
  return { words: await names(what, asked), files: PATHS.has(what) };
}

const optionsOf = (command: Command): readonly Candidate[] => [
  ...command.options
    .filter(o => !o.hidden)
    .map(o => ({ word: o.long ?? o.short ?? '', about: o.description.replaceAll('\n', ' ') })),
  { word: '--help', about: 'display help for command' },
];

const commandsOf = (command: Command): readonly Candidate[] =>
  command.commands.map(c => ({ word: c.name(), about: c.summary() }));

const only = (writing: string, { words, files }: Candidates): Candidates => ({
  words: words.filter(({ word }) => word.startsWith(writing)),
  files,
});

/** As the names in `GlobalOptions`. */
export const globalsOf = (options: ReadonlyMap<string, string>): GlobalOptions =>
  Object.fromEntries([...options].filter(([name]) => ['config', 'stateDir', 'runDir'].includes(name)));
