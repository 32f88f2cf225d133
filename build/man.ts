/**
 * Writes the manual pages, the shells' completions and the schema for editors into dist/, from the definitions that --help and the
 * configuration's readers are made of. `node build/man.ts`; dist/man/shiftvol.1 and one page a command,
 * dist/completion/{bash,zsh,fish}, dist/plugin.schema.json.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { programFor } from '../src/cli/program.ts';
import { pluginJsonSchema } from '../src/config/json-schema.ts';
import { PAGE_DATE, page } from './roff.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** File name -> text of every page. */
export async function manualPages(): Promise<ReadonlyMap<string, string>> {
  const program = await programFor([]);
  const { version }: { version: string } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const facts = { version, date: PAGE_DATE };
  const pages = new Map([['shiftvol.1', page(program, facts)]]);
  for (const command of program.commands) pages.set(`shiftvol-${command.name()}.1`, page(command, facts));
  return pages;
}

/** Every command that does something, with the words that name it. */
export function* leaves(command: Command, above: readonly string[] = []): Generator<[readonly string[], Command]> {
  const words = [...above, command.name()];
  if (command.commands.length === 0) yield [words, command];
  for (const below of command.commands) yield* leaves(below, words);
}

if (import.meta.main) {
  const man = join(ROOT, 'dist/man');
  const completion = join(ROOT, 'dist/completion');
  rmSync(man, { recursive: true, force: true });
  mkdirSync(man, { recursive: true });
  mkdirSync(completion, { recursive: true });
  for (const [name, text] of await manualPages()) writeFileSync(join(man, name), text);
  writeFileSync(join(ROOT, 'dist/plugin.schema.json'), `${JSON.stringify(pluginJsonSchema(), null, 1)}\n`);
  for (const shell of ['bash', 'zsh', 'fish'])
    writeFileSync(
      join(completion, shell),
      execFileSync(process.execPath, [join(ROOT, 'src/cli/main.ts'), 'completion', shell]),
    );
}
