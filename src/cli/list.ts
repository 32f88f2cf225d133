import type { DefineCommand, GlobalOptions } from './command.ts';

export const define: DefineCommand = program => {
  program
    .command('list')
    .summary('list attachments')
    .argument('[instance]', 'only those of this instance')
    .addHelpText('after', '\nExample:\n  shiftvol list --json | jq -r ".[].target"')
    .action(async (instance: string | undefined, _options, command) => {
      const options: GlobalOptions = command.optsWithGlobals();
      const { callEngine } = await import('./engine-client.ts');
      const answer = await callEngine(options, { command: 'list', ...(instance !== undefined && { instance }) });
      const { print } = await import('./output.ts');
      const { attachmentTable } = await import('./show-outcome.ts');
      print(options, answer as Parameters<typeof attachmentTable>[0], attachmentTable);
    });
};
