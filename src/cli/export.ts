import type { DefineCommand, GlobalOptions } from './command.ts';
import { projectOption } from './options.ts';

export type ExportOptions = GlobalOptions & {
  readonly project?: string;
  readonly keep?: string;
  readonly since?: string;
  readonly withoutTemplate?: boolean;
  readonly has?: string;
  readonly shared?: boolean;
};

export const define: DefineCommand = program => {
  program
    .command('export')
    .summary('write volumes as a stream, for import on another host')
    .argument('<attachment>', 'INSTANCE, INSTANCE:TARGET or an attachment’s id')
    .argument('<file>', 'where to; "-" is standard output')
    .option('--keep <name>', 'a first pass: keep what was sent as a snapshot of this name, for --since')
    .option('--since <name>', 'only what changed since the snapshot of this name was sent')
    .option('--without-template', 'leave the template out: the other host has one with the same sha256')
    .option('--has <file>', 'leave out what "import --blocks" says that the other host has from a try that was cut off')
    .option('--shared', 'a file or device that both hosts reach: detach it here, and write only whose it is')
    .addOption(projectOption())
    .addHelpText(
      'after',
      '\nWhat differs from the template is sent, compressed, with a checksum of each block and of the whole. The instance may run: its file\nsystem stands still for the moment of a snapshot. Nothing changes here (but with --shared); "destroy" it when it has arrived.\n' +
        '\nExamples:\n  shiftvol export c1:/mnt/data - | ssh node2 shiftvol import -\n' +
        '  shiftvol export c1:/mnt/data - --keep move | ssh node2 shiftvol import -      while it runs\n' +
        '  shiftvol export c1:/mnt/data - --since move | ssh node2 shiftvol import -     when it has stopped',
    )
    .action(async (place: string, file: string, _options, command) => {
      const options: ExportOptions = command.optsWithGlobals();
      await (await import('./export-volumes.ts')).exportVolumes(place, file, options);
    });
};
