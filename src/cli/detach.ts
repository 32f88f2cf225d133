import type { DefineCommand, GlobalOptions } from './command.ts';
import { projectOption } from './options.ts';

type Options = GlobalOptions & {
  readonly lazy?: boolean;
  readonly volumeId?: string;
  readonly project?: string;
  readonly requestId?: string;
  readonly dryRun?: boolean;
};

export const define: DefineCommand = program => {
  program
    .command('detach')
    .summary('take a volume away from an instance; its data stays')
    .argument('<instance>', 'name in the runtime, or Nova uuid; INSTANCE:TARGET is accepted too')
    .argument('[target]', 'path inside the instance')
    .option('--volume-id <id>', 'the volume with this Cinder id, instead of a target')
    .option('--lazy', 'take it out of sight even while a process holds it; it is let go when that process ends')
    .addOption(projectOption())
    .option('--request-id <id>', 'the same id twice is done once')
    .option('--dry-run', 'print what would be done, and do nothing')
    .addHelpText(
      'after',
      '\nA volume that is in use is not detached: the error names the process that holds it, and nothing changes.\nThe snapshot of a template is kept: attach it again, or "shiftvol destroy" it.\n\nExamples:\n  shiftvol detach c1 /mnt/data\n  shiftvol detach c1:/mnt/data --lazy',
    )
    .action(async (place: string, path: string | undefined, _options, command) => {
      const options: Options = command.optsWithGlobals();
      const { lazy = false, volumeId, project, requestId, dryRun = false } = options;
      const [{ parsePlace }, { callEngine }, { print }, { outcomeText }, { ShiftvolError }] = await Promise.all([
        import('./volume-argument.ts'),
        import('./engine-client.ts'),
        import('./output.ts'),
        import('./show-outcome.ts'),
        import('../errors.ts'),
      ]);
      const { instance, target } = parsePlace(place, path);
      if ((target === undefined) === (volumeId === undefined))
        throw new ShiftvolError('SV_USAGE', 'Cannot tell what to detach: give a target, or --volume-id', {
          field: 'target',
        });
      const body = {
        action: 'detach' as const,
        instance: { ref: instance, project },
        target,
        volumeId,
        lazy,
        requestId,
      };
      print(options, await callEngine(options, { command: 'execute', dryRun, body }), outcomeText);
    });
};
