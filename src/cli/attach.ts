import type { ApiRequest } from '../http/api.ts';
import type { DefineCommand, GlobalOptions } from './command.ts';
import { idBaseOption, projectOption } from './options.ts';

type Options = GlobalOptions & {
  readonly snapshot?: boolean;
  readonly size?: string;
  readonly idBase?: number;
  readonly volumeId?: string;
  readonly project?: string;
  readonly requestId?: string;
  readonly dryRun?: boolean;
};

export const define: DefineCommand = program => {
  program
    .command('attach')
    .summary('mount a volume, or a snapshot of a template, inside an instance')
    .argument('<instance>', 'name in the runtime, or Nova uuid')
    .argument(
      '<volume>',
      'SOURCE:TARGET[:ro]: a raw image, a block device, cinder:VOLUME, or with --snapshot a template',
    )
    .option('--snapshot', 'SOURCE is a template: attach a writable snapshot of it')
    .option('--size <size>', 'of the snapshot, as 20G: its file system is grown to it (default: the template’s)')
    .addOption(idBaseOption())
    .option('--volume-id <id>', 'note this Cinder volume id with it')
    .addOption(projectOption())
    .option('--request-id <id>', 'the same id twice is done once')
    .option('--dry-run', 'print what would be done, and do nothing')
    .addHelpText(
      'after',
      '\nExamples:\n  shiftvol attach c1 web:/mnt/data --snapshot\n  shiftvol attach c1 /srv/vol.raw:/mnt/data\n  shiftvol attach c1 /dev/sdb1:/mnt/data:ro\n  shiftvol attach c1 cinder:my-volume:/mnt/data',
    )
    .action(async (instance: string, volume: string, _options, command) => {
      const options: Options = command.optsWithGlobals();
      const { snapshot = false, size, idBase, volumeId, project, requestId, dryRun = false } = options;
      const [{ parseVolume }, { callEngine }, { print }, { outcomeText }, { ShiftvolError }] = await Promise.all([
        import('./volume-argument.ts'),
        import('./engine-client.ts'),
        import('./output.ts'),
        import('./show-outcome.ts'),
        import('../errors.ts'),
      ]);
      const sizeBytes = size === undefined ? undefined : (await import('../storage/size.ts')).parseSize(size, '--size');
      const asked = parseVolume(volume, {
        snapshot,
        ...(idBase !== undefined && { idBase }),
        ...(sizeBytes !== undefined && { sizeBytes }),
      });
      const { source, ...place } = asked;
      if (source.kind === 'cinder' && volumeId !== undefined)
        throw new ShiftvolError('SV_USAGE', 'Cannot note another id with a volume of Cinder: it has its own', {
          field: '--volume-id',
        });
      const about = { instance: { ref: instance, project }, requestId, ...place };
      const request: ApiRequest =
        source.kind === 'cinder'
          ? { command: 'attach.volume', dryRun, body: { ...about, volume: source.volume, idBase: source.idBase } }
          : { command: 'execute', dryRun, body: { action: 'attach', ...about, volumeId, source } };
      print(options, await callEngine(options, request), outcomeText);
    });
};
