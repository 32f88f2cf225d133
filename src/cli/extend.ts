import type { DefineCommand, GlobalOptions } from './command.ts';
import { projectOption } from './options.ts';

type Options = GlobalOptions & {
  readonly size?: string;
  readonly volumeId?: string;
  readonly project?: string;
  readonly requestId?: string;
  readonly dryRun?: boolean;
};

export const define: DefineCommand = program => {
  program
    .command('extend')
    .summary('make what is attached larger, while it is in use')
    .argument('<attachment>', 'INSTANCE:TARGET, an attachment’s id, or an instance with --volume-id')
    .option('--size <size>', 'that it is to have, as 20G; a block device is taken as large as it is')
    .option('--volume-id <id>', 'the volume with this Cinder id')
    .addOption(projectOption())
    .option('--request-id <id>', 'the same id twice is done once')
    .option('--dry-run', 'print what would be done, and do nothing')
    .addHelpText(
      'after',
      '\nThe instance sees the new size at once. Nothing is ever made smaller.\nA volume of Cinder that was attached by "attach INSTANCE cinder:VOLUME:/path" is made larger there first;\none that Nova attached, with "openstack volume set --size".\n\nExamples:\n  shiftvol extend c1:/mnt/data --size 20G\n  shiftvol extend 1f0c4b7a9d2e3f56 --size 20G\n  shiftvol extend c1 --volume-id 2f3c6b0e-5f0d-4a57-a9d5-3b2f4a1c7f10',
    )
    .action(async (text: string, _options, command) => {
      const options: Options = command.optsWithGlobals();
      const { size, volumeId, project, requestId, dryRun = false } = options;
      const [{ parsePlace }, { callEngine }, { print }, { outcomeText }, { parseSize }] = await Promise.all([
        import('./volume-argument.ts'),
        import('./engine-client.ts'),
        import('./output.ts'),
        import('./show-outcome.ts'),
        import('../storage/size.ts'),
      ]);
      const { instance, target } = parsePlace(text);
      const sizeBytes = size === undefined ? undefined : parseSize(size, '--size');
      const body = {
        action: 'extend' as const,
        instance: { ref: instance, project },
        target,
        volumeId,
        sizeBytes,
        requestId,
      };
      print(options, await callEngine(options, { command: 'execute', dryRun, body }), outcomeText);
    });
};
