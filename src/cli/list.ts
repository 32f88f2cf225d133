import type { DefineCommand, GlobalOptions } from './command.ts';

type Options = GlobalOptions & { readonly watch?: string | true };

export const define: DefineCommand = program => {
  program
    .command('list')
    .summary('list attachments')
    .argument('[instance]', 'only those of this instance')
    .option('--watch [seconds]', 'look again and again (default: every 2 s)')
    .addHelpText(
      'after',
      '\nExamples:\n  shiftvol list --json | jq -r ".[].target"\n  shiftvol list --watch 0.5 --json | jq -c "map(.state)"',
    )
    .action(async (instance: string | undefined, _options, command) => {
      const options: Options = command.optsWithGlobals();
      const { callEngine } = await import('./engine-client.ts');
      const { print } = await import('./output.ts');
      const { attachmentTable } = await import('./show-outcome.ts');
      type Rows = Parameters<typeof attachmentTable>[0];
      const ask = () => callEngine(options, { command: 'list', ...(instance !== undefined && { instance }) });
      if (options.watch === undefined) return print(options, (await ask()) as Rows, attachmentTable);
      const { intervalMs, watch } = await import('./watch.ts');
      await watch(intervalMs(options.watch), async () => {
        const rows = (await ask()) as Rows;
        return options.json ? JSON.stringify(rows) : attachmentTable(rows);
      });
    });
};
