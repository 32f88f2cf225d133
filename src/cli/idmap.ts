import type { Command } from 'commander';
import { EXIT, explain, ShiftvolError } from '../errors.ts';
import type { Problem } from '../idmap/check.ts';
import { IDMAP_FORMS, type IdmapForm, SHAPES } from '../idmap/forms.ts';
import type { Idmap, IdRange } from '../idmap/idmap.ts';
import type { DefineCommand, GlobalOptions } from './command.ts';
import { projectOption } from './options.ts';
import { paint, print, table } from './output.ts';

type FormOptions = GlobalOptions & { readonly form?: IdmapForm };

export const define: DefineCommand = program => {
  const idmap = program.command('idmap').summary('read, compose and check id maps, and see who has which ids');
  idmap.description(
    'Id maps say as what ids an id on disk is shown. All forms in use are read: LXD, LXC, mount, podman, /proc, subuid files, JSON.\n' +
      '"uid 0 100000 65536" is on-disk id, host id, count; LXD’s own raw.idmap, "uid 100000-165535 0-65535", says the host’s ids first.',
  );
  defineParse(idmap);
  defineCompose(idmap);
  defineCheck(idmap);
  defineEngineCommands(idmap);
};

function defineParse(idmap: Command): void {
  type Options = FormOptions & { readonly to?: IdmapForm; readonly invert?: boolean };
  idmap
    .command('parse')
    .summary('read an id map in any form and print it')
    .argument('<text...>', 'the map, or - to read it from standard input')
    .addOption(formOption(idmap, '--form <form>', 'the form of the text (default: seen from the text)'))
    .addOption(formOption(idmap, '--to <form>', 'print it in this form'))
    .option('--invert', 'the way back: from host ids to on-disk ids')
    .addHelpText(
      'after',
      `\nForms:\n${formList()}\n\nExamples:\n  shiftvol idmap parse b:0:200000:65536\n  shiftvol idmap parse --to lxc "both 200000-265535 0-65535"\n  shiftvol idmap parse - < /proc/1234/uid_map`,
    )
    .action(async (words: readonly string[], _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Options>();
      const { invert, requireSound } = await import('../idmap/compose.ts');
      const { printIdmap } = await import('../idmap/print.ts');
      const read = await readMap(words, options);
      requireSound(read);
      const map = options.invert === true ? invert(read) : read;
      const { to } = options;
      print(options, { extents: map }, value =>
        to === undefined ? mapTable(value.extents) : printIdmap(value.extents, to),
      );
    });
}

function defineCompose(idmap: Command): void {
  idmap
    .command('compose')
    .summary('print what one map makes of what another one shows')
    .argument('<first>', 'on-disk ids to container ids')
    .argument('<second>', 'container ids to host ids')
    .addOption(formOption(idmap, '--form <form>', 'the form of both (default: seen from the text)'))
    .addHelpText('after', '\nExample:\n  shiftvol idmap compose b:100000:0:65536 b:0:200000:65536')
    .action(async (first: string, second: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<FormOptions>();
      const { compose } = await import('../idmap/compose.ts');
      const map = compose(await readMap([first], options), await readMap([second], options));
      if (map.length === 0)
        throw new ShiftvolError(
          'SV_IDMAP_INVALID',
          'Cannot compose the two idmaps: the second maps none of the ids that the first shows, at least one is needed',
          { field: 'second' },
        );
      print(options, { extents: map }, value => mapTable(value.extents));
    });
}

function defineCheck(idmap: Command): void {
  type Options = FormOptions & { readonly within?: readonly IdRange[] };
  idmap
    .command('check')
    .summary('say whether a volume may be mounted with an id map')
    .argument('<map...>', 'the map, or - to read it from standard input')
    .addOption(formOption(idmap, '--form <form>', 'the form of the text (default: seen from the text)'))
    .option(
      '--within <start:count>',
      'host ids that the instance owns, uids and gids alike; may be repeated',
      rangeOption,
    )
    .addHelpText('after', '\nExample:\n  shiftvol idmap check b:0:200000:65536 --within 200000:65536')
    .action(async (words: readonly string[], _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Options>();
      const { checkIdmap, problemError } = await import('../idmap/check.ts');
      const map = await readMap(words, options);
      const { within } = options;
      const problems = checkIdmap(map, within === undefined ? {} : { within: { uid: within, gid: within } });
      print(options, { extents: map, problems }, value =>
        [mapTable(value.extents), ...value.problems.map(problemLine)].join('\n'),
      );
      const worst = problems.find(p => p.severity === 'error');
      if (worst === undefined) return;
      // Not thrown: the problems are printed already, and with --json a second document would follow them.
      process.stderr.write(`shiftvol: ${explain(problemError(worst))}\n`);
      process.exitCode = EXIT.usage;
    });
}

/** What needs the journal: whoever holds the state directory answers. */
function defineEngineCommands(idmap: Command): void {
  type Options = GlobalOptions & {
    readonly count?: number;
    readonly start?: number;
    readonly project?: string;
    readonly dryRun?: boolean;
  };
  const engine = async (
    options: GlobalOptions,
    request: Parameters<typeof import('./engine-client.ts').callEngine>[1],
  ) => await (await import('./engine-client.ts')).callEngine(options, request);
  idmap
    .command('alloc')
    .summary('give an instance a range of ids of its own')
    .argument('<instance>', 'name or uuid')
    .option('--count <ids>', 'how many ids (default: as configured, 65536)', numberOption('--count'))
    .option('--start <id>', 'begin at this host id and no other', numberOption('--start'))
    .addOption(projectOption())
    .option('--dry-run', 'say which range it would be')
    .addHelpText(
      'after',
      '\nThe range is kept until "shiftvol destroy" or "shiftvol idmap release". An instance has one; asked again it is told.\n\nExamples:\n  shiftvol idmap alloc c2 --dry-run\n  shiftvol idmap alloc c2 --count 131072 --start 1048576',
    )
    .action(async (instance: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Options>();
      const { count, start, project, dryRun = false } = options;
      const answer = await engine(options, {
        command: 'idmap.alloc',
        instance,
        dryRun,
        ...(project === undefined ? {} : { project }),
        ...(count === undefined ? {} : { count }),
        ...(start === undefined ? {} : { start }),
      });
      const { allocationText } = await import('./idmap-answers.ts');
      print(options, answer, allocationText);
    });
  idmap
    .command('release')
    .summary('give an instance’s range back; one that is in use is kept')
    .argument('<instance>', 'name or uuid')
    .addOption(projectOption())
    .option('--dry-run', 'say whether there is anything to give back')
    .addHelpText('after', '\nExample:\n  shiftvol idmap release c2')
    .action(async (instance: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Options>();
      const { project, dryRun = false } = options;
      const answer = await engine(options, {
        command: 'idmap.release',
        instance,
        dryRun,
        ...(project === undefined ? {} : { project }),
      });
      const { releaseText } = await import('./idmap-answers.ts');
      print(options, answer, releaseText);
    });
  idmap
    .command('list')
    .summary('list who has which host ids')
    .addHelpText(
      'after',
      '\nOurs, the configured containers of LXD and LXC, and every user namespace that is alive.\n\nExample:\n  shiftvol idmap list --json | jq -r ".ranges[].owner"',
    )
    .action(async (_options: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const answer = await engine(options, { command: 'idmap.list' });
      const { listText } = await import('./idmap-answers.ts');
      print(options, answer, listText);
    });
}

async function readMap(words: readonly string[], options: FormOptions): Promise<Idmap> {
  const { parseIdmap } = await import('../idmap/parse.ts');
  const { form } = options;
  return parseIdmap(await textOf(words), form === undefined ? {} : { form });
}

/** Quoted entries stand for lines; bare words (`uid 0 100000 65536`, `u:0:1:1 g:0:1:1`) are one line. */
async function textOf(words: readonly string[]): Promise<string> {
  if (words.length === 1 && words[0] === '-') return await (await import('node:stream/consumers')).text(process.stdin);
  return words.join(words.some(word => /\s/.test(word)) ? '\n' : ' ');
}

function mapTable(map: Idmap): string {
  const ids = (start: number, count: number) => (count > 1 ? `${start}-${start + count - 1}` : `${start}`);
  return table(
    ['KIND', 'ON DISK', 'SHOWN AS', 'COUNT'],
    map.map(e => [e.kind, ids(e.fsId, e.count), ids(e.hostId, e.count), `${e.count}`]),
  );
}

function formList(): string {
  return IDMAP_FORMS.map(form => `  ${form.padEnd(8)}  ${SHAPES[form]}`).join('\n');
}

function problemLine({ severity, field, text }: Problem): string {
  return `${paint(severity === 'error' ? 'red' : 'yellow', severity)}  ${field}: ${text}`;
}

function formOption(command: Command, flags: string, description: string) {
  return command.createOption(flags, description).choices(IDMAP_FORMS);
}

function rangeOption(text: string, before: readonly IdRange[] = []): readonly IdRange[] {
  const [, start, count] = /^(\d{1,10}):(\d{1,10})$/.exec(text) ?? [];
  if (start !== undefined && count !== undefined) return [...before, { start: Number(start), count: Number(count) }];
  throw new ShiftvolError('SV_USAGE', `Cannot read --within ${JSON.stringify(text)}: accepted is START:COUNT`, {
    field: '--within',
  });
}

function numberOption(name: string): (text: string) => number {
  return text => {
    if (/^\d{1,10}$/.test(text)) return Number(text);
    throw new ShiftvolError('SV_USAGE', `Cannot read ${name} ${JSON.stringify(text)}: accepted is a whole number`, {
      field: name,
    });
  };
}
