import type { DefineCommand, GlobalOptions } from './command.ts';

type Options = GlobalOptions & { readonly bus?: boolean };

export const define: DefineCommand = program => {
  program
    .command('serve')
    .summary('run the agent of this host: bus consumer and local socket')
    .option('--no-bus', 'do not connect to the broker, even where one is configured')
    .addHelpText(
      'after',
      '\nOne agent a state directory. It recovers first, then listens on RUN_DIR/agent.sock (for this command line) and on the bus.\nSIGTERM or SIGINT: takes no more, ends what is under way, and leaves every mount in place.\n\nExamples:\n  shiftvol serve\n  shiftvol serve --no-bus -v',
    )
    .action(async (_options, command) => {
      const options: Options = command.optsWithGlobals();
      (await import('./memory.ts')).startSmall();
      const { runAgent } = await import('./agent.ts');
      await runAgent(options, options.bus ?? true);
    });
};
