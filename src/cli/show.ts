import type { DefineCommand, GlobalOptions } from './command.ts';
import { projectOption } from './options.ts';

type Options = GlobalOptions & { readonly project?: string };

export const define: DefineCommand = program => {
  program
    .command('show')
    .summary('show all that is known of an attachment')
    .argument('<which>', 'attachment id, INSTANCE or INSTANCE:TARGET')
    .addOption(projectOption())
    .addHelpText('after', '\nExample:\n  shiftvol show c1:/mnt/data')
    .action(async (which: string, _options, command) => {
      const options: Options = command.optsWithGlobals();
      const { project } = options;
      const { callEngine } = await import('./engine-client.ts');
      const { parsePlace } = await import('./volume-argument.ts');
      const answer = await callEngine(options, { command: 'show', ...parsePlace(which), project });
      const { print } = await import('./output.ts');
      const { attachmentDetails } = await import('./show-outcome.ts');
      print(options, answer as Parameters<typeof attachmentDetails>[0], attachmentDetails);
    });
};
