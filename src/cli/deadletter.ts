import { type Command, Option } from 'commander';
import type { DeadLetter } from '../bus/dead-letter.ts';
import { ShiftvolError } from '../errors.ts';
import type { DefineCommand, GlobalOptions } from './command.ts';
import { print, table } from './output.ts';

type Many = GlobalOptions & { readonly all?: boolean };

export const define: DefineCommand = program => {
  const deadletter = program.command('deadletter').summary('see what could not be handled, and try it again');
  deadletter.description(
    'What no agent of a broker could handle lies in one queue (bus.dead_letter), each with the reason.\nOf what is in a message only ids and names are shown, since it may have passwords in it.',
  );
  defineList(deadletter);
  defineShow(deadletter);
  defineReplay(deadletter);
  defineDrop(deadletter);
};

function defineList(deadletter: Command): void {
  deadletter
    .command('list')
    .summary('list dead letters, the oldest first')
    .addOption(new Option('--limit <count>', 'at most so many').default('100'))
    .addHelpText('after', '\nExample:\n  shiftvol deadletter list --json | jq -r ".[].reason" | sort | uniq -c')
    .action(async (_options: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions & { readonly limit: string }>();
      if (!/^[1-9]\d{0,4}$/.test(options.limit))
        throw new ShiftvolError(
          'SV_USAGE',
          `Cannot read --limit ${JSON.stringify(options.limit)}: accepted is 1 to 99999`,
          {
            field: '--limit',
          },
        );
      const { listDead } = await import('../bus/dead-letters.ts');
      const { config, signal } = await start(options);
      print(options, await listDead(config, signal, Number(options.limit)), listText);
    });
}

function defineShow(deadletter: Command): void {
  deadletter
    .command('show')
    .summary('show what is known of one')
    .argument('<id>', 'its id, or the beginning of it')
    .option('--raw', 'the message itself, as it came: it may have passwords in it')
    .addHelpText('after', '\nExample:\n  shiftvol deadletter show 3f2a')
    .action(async (id: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions & { readonly raw?: boolean }>();
      const { showDead } = await import('../bus/dead-letters.ts');
      const { config, signal } = await start(options);
      const { letter, body } = await showDead(config, id, signal);
      if (options.raw === true) print(options, { ...letter, body }, l => l.body);
      else print(options, letter, letterText);
    });
}

function defineReplay(deadletter: Command): void {
  deadletter
    .command('replay')
    .summary('put them back into the queues that they came from')
    .argument('[id...]', 'ids, or the beginnings of them')
    .option('--all', 'every one')
    .addHelpText('after', '\nExample:\n  shiftvol deadletter replay 3f2a 90bc')
    .action(async (ids: readonly string[], _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Many>();
      const { replayDead } = await import('../bus/dead-letters.ts');
      const { config, signal } = await start(options);
      const result = await replayDead(config, which(ids, options), signal);
      print(options, result, ({ replayed, kept }) =>
        [
          ...replayed.map(r => `${r.id} -> ${r.queue}`),
          ...kept.map(k => `${k.id} stays: ${k.why}${k.queue === '' ? '' : ` (${k.queue})`}`),
        ].join('\n'),
      );
      if (result.kept.length > 0) process.exitCode = 1;
    });
}

function defineDrop(deadletter: Command): void {
  deadletter
    .command('drop')
    .summary('throw them away')
    .argument('[id...]', 'ids, or the beginnings of them')
    .option('--all', 'every one')
    .addHelpText('after', '\nExample:\n  shiftvol deadletter drop 3f2a')
    .action(async (ids: readonly string[], _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Many>();
      const { dropDead } = await import('../bus/dead-letters.ts');
      const { config, signal } = await start(options);
      const dropped = await dropDead(config, which(ids, options), signal);
      print(options, { dropped }, d => d.dropped.map(id => `dropped ${id}`).join('\n'));
    });
}

async function start(options: GlobalOptions) {
  const [{ loadConfig }, { stopOnSignals }] = await Promise.all([import('../config/load.ts'), import('./signals.ts')]);
  return { config: loadConfig(options), signal: stopOnSignals().signal };
}

function which(ids: readonly string[], { all = false }: Many): readonly string[] | 'all' {
  if (all === ids.length > 0)
    throw new ShiftvolError('SV_USAGE', 'Cannot choose dead letters: ids or --all are accepted', { field: 'id' });
  for (const id of ids)
    if (!/^[0-9a-f]{4,12}$/.test(id))
      throw new ShiftvolError(
        'SV_USAGE',
        `Cannot read the id ${JSON.stringify(id)}: 4 to 12 of 0-9 and a-f are accepted`,
        {
          field: 'id',
        },
      );
  return all ? 'all' : ids;
}

const listText = (letters: readonly DeadLetter[]): string =>
  table(
    ['ID', 'AT', 'HOST', 'EVENT', 'REASON'],
    letters.map(l => [l.id, l.at ?? '-', l.host ?? '-', l.event ?? l.key, short(l.reason)]),
  );

const short = (text: string): string => (text.length > 100 ? `${text.slice(0, 99)}…` : text);

const letterText = ({ ids, ...letter }: DeadLetter): string =>
  [...Object.entries(letter), ...Object.entries(ids)]
    .filter(([, value]) => value !== null && value !== '')
    .map(([key, value]) => `${key.padEnd(13)} ${String(value)}`)
    .join('\n');
