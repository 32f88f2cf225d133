import { setFlagsFromString } from 'node:v8';
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
      // The young generation stays as small as it begins: over 1,600 rounds of spawn and destroy the heap of an engine went from 24 to
      // 26 MiB, without this to 46, and V8 gives nothing back.
      setFlagsFromString('--semi-space-growth-factor=1');
      const { runAgent } = await import('./agent.ts');
      await runAgent(options, options.bus ?? true);
    });
};
