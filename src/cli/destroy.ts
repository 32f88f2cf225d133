import type { DefineCommand, GlobalOptions } from './command.ts';
import { projectOption } from './options.ts';

type Options = GlobalOptions & {
  readonly lazy?: boolean;
  readonly project?: string;
  readonly requestId?: string;
  readonly dryRun?: boolean;
};

export const define: DefineCommand = program => {
  program
    .command('destroy')
    .summary('let go of all that was made for an instance: mounts, snapshots, ids')
    .argument('<instance>', 'name or Nova uuid; INSTANCE:TARGET for one attachment only')
    .argument('[target]', 'only the attachment at this path')
    .option('--lazy', 'unmount even while a process holds it')
    .addOption(projectOption())
    .option('--request-id <id>', 'the same id twice is done once')
    .option('--dry-run', 'print what would be done, and do nothing')
    .addHelpText(
      'after',
      '\nSnapshots are removed with the data in them. Volumes that shiftvol did not make (files, block devices) are let go and stay as they are.\n\nExamples:\n  shiftvol destroy c1\n  shiftvol destroy c1:/mnt/data',
    )
    .action(async (place: string, path: string | undefined, _options, command) => {
      const options: Options = command.optsWithGlobals();
      const { lazy = false, project, requestId, dryRun = false } = options;
      const [{ parsePlace }, { callEngine }, { print }, { outcomeText }] = await Promise.all([
        import('./volume-argument.ts'),
        import('./engine-client.ts'),
        import('./output.ts'),
        import('./show-outcome.ts'),
      ]);
      const { instance, target } = parsePlace(place, path);
      const body = { action: 'destroy' as const, instance: { ref: instance, project }, target, lazy, requestId };
      print(options, await callEngine(options, { command: 'execute', dryRun, body }), outcomeText);
    });
};
