import type { HeardEvent } from '../bus/follow.ts';
import type { DefineCommand, GlobalOptions } from './command.ts';

export const define: DefineCommand = program => {
  program
    .command('events')
    .summary('show what agents do, while they do it')
    .requiredOption('--follow', 'until a signal ends it; what was before is not kept anywhere')
    .addHelpText(
      'after',
      '\nOf all agents on the broker (bus.url), as they tell it: shiftvol.attach.start, .end, .error and so on. With --json an object a line.\n\nExample:\n  shiftvol events --follow --json | jq -r "select(.event | endswith(\\".error\\"))"',
    )
    .action(async (_options, command) => {
      const options: GlobalOptions = command.optsWithGlobals();
      const [{ loadConfig }, { followEvents }, { stopOnSignals }] = await Promise.all([
        import('../config/load.ts'),
        import('../bus/follow.ts'),
        import('./signals.ts'),
      ]);
      using stop = stopOnSignals();
      const show = (event: HeardEvent) =>
        void process.stdout.write(`${options.json ? JSON.stringify(event) : lineOf(event)}\n`);
      await followEvents(loadConfig(options), show, stop.signal);
    });
};

const lineOf = ({ at, event, publisher, payload }: HeardEvent): string =>
  [
    at,
    publisher,
    event,
    ...Object.entries(payload)
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`),
  ].join(' ');
