import type { DefineCommand, GlobalOptions } from './command.ts';
import { projectOption } from './options.ts';

type Options = GlobalOptions & {
  readonly size?: string;
  readonly project?: string;
  readonly requestId?: string;
  readonly dryRun?: boolean;
};

export const define: DefineCommand = program => {
  program
    .command('spawn')
    .summary('prepare a root file system for an instance: ids, snapshot, map, at a known path')
    .argument('<instance>', 'name or Nova uuid that the instance will have')
    .argument('<template>', 'the template of its root file system')
    .option('--size <size>', 'of the root file system, as 20G: it is grown to it (default: the template’s)')
    .addOption(projectOption())
    .option('--request-id <id>', 'the same id twice is done once')
    .option('--dry-run', 'print what would be done, and do nothing')
    .addHelpText(
      'after',
      '\nThe answer has the path (hostPath) and the ids (extents) to start the instance with: for LXD raw.lxc=lxc.rootfs.path=dir:PATH,\nsecurity.idmap.isolated=true, security.idmap.base and security.idmap.size.\n\nExample:\n  shiftvol spawn c2 debian',
    )
    .action(async (instance: string, template: string, _options, command) => {
      const options: Options = command.optsWithGlobals();
      const { size, project, requestId, dryRun = false } = options;
      const [{ callEngine }, { print }, { outcomeText }] = await Promise.all([
        import('./engine-client.ts'),
        import('./output.ts'),
        import('./show-outcome.ts'),
      ]);
      const sizeBytes = size === undefined ? undefined : (await import('../storage/size.ts')).parseSize(size, '--size');
      const body = { action: 'spawn' as const, instance: { ref: instance, project }, template, sizeBytes, requestId };
      print(options, await callEngine(options, { command: 'execute', dryRun, body }), outcomeText);
    });
};
