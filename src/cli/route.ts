import type { DefineCommand, GlobalOptions } from './command.ts';

export const define: DefineCommand = program => {
  program
    .command('route')
    .summary('give each host its own notifications: a router for many hosts')
    .addHelpText(
      'after',
      '\nReads the notifications of all hosts on every URL of bus.listen, and gives each agent with "bus.source: router" its own. Needs no\nroot, keeps nothing; any number may run at once. SIGTERM or SIGINT: takes no more, and ends what is under way.\n\nExamples:\n  shiftvol route\n  SHIFTVOL_TRANSPORT_URL=rabbit://user:password@host:5672/ shiftvol route --json',
    )
    .action(async (_options, command) => {
      const options: GlobalOptions = command.optsWithGlobals();
      const { runRouter } = await import('./router.ts');
      await runRouter(options);
    });
};
