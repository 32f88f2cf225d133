import type { DefineCommand, GlobalOptions } from './command.ts';
import { projectOption } from './options.ts';

export type ImportOptions = GlobalOptions & {
  readonly project?: string;
  readonly instance?: string;
  readonly blocks?: boolean;
  readonly received?: boolean;
  readonly abandon?: boolean;
  readonly dryRun?: boolean;
};

export const define: DefineCommand = program => {
  program
    .command('import')
    .summary('take over volumes that export wrote on another host')
    .argument(
      '[source]',
      'the stream: a file, or "-" for standard input; with --blocks, --received or --abandon an attachment’s id',
    )
    .option('--instance <name>', 'whose they become (default: the instance’s name on the other host)')
    .option(
      '--received',
      'take over what came whole, for an instance that was not there then; without an id list what is here',
    )
    .option('--blocks', 'print what has arrived of a try that was cut off, for "export --has"')
    .option('--abandon', 'remove what has arrived')
    .addOption(projectOption())
    .option('--dry-run', 'read what the stream says of itself, print what would be done, and do nothing')
    .addHelpText(
      'after',
      '\nA volume becomes an attachment when all of it has arrived and its checksum is right; no file is touched for it, the map of the\ninstance on this host does it. A volume needs its instance; a root file system gets ids where there is none yet, and the answer has\nthem and the path. What a cut stream has brought is kept, and not sent again.\n' +
        '\nExamples:\n  shiftvol import c1.stream\n  ssh node1 shiftvol export c1:/mnt/data - | shiftvol import -\n  shiftvol import --received',
    )
    .action(async (source: string | undefined, _options, command) => {
      const options: ImportOptions = command.optsWithGlobals();
      await (await import('./import-volumes.ts')).importVolumes(source, options);
    });
};
