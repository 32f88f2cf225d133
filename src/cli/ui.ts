import type { DefineCommand, GlobalOptions } from './command.ts';

type Options = GlobalOptions & { readonly open?: boolean; readonly listen: string };

export const define: DefineCommand = program => {
  program
    .command('ui')
    .summary('show this host in a browser, while the command runs')
    .option('--open', 'start a browser on it')
    .option(
      '--listen <address>',
      'where to listen: an address of this host and a port; 0 is any free one',
      '127.0.0.1:0',
    )
    .addHelpText(
      'after',
      '\nAsks the agent of this host, or, where none runs, reads the journal as "shiftvol list" does. The link is for one browser: it opens once, and\nwhoever has it may replay and drop dead letters. Ends with Control-C.\nFrom afar: ssh -L 9478:127.0.0.1:9478 HOST sudo shiftvol ui --listen 127.0.0.1:9478\n\nExamples:\n  shiftvol ui\n  shiftvol ui --listen 127.0.0.1:9478',
    )
    .action(async (_options, command) => {
      const options: Options = command.optsWithGlobals();
      const [{ loadConfig }, { showPage }] = await Promise.all([import('../config/load.ts'), import('./ui-page.ts')]);
      await showPage(loadConfig(options), options);
    });
};
