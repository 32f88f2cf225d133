/** What a probe of an orchestrator runs every few seconds: it loads the configuration and asks the socket, and nothing else. */
import type { DefineCommand, GlobalOptions } from './command.ts';

type Options = GlobalOptions & { readonly bus?: boolean; readonly ready?: boolean; readonly timeout: string };

export const define: DefineCommand = program => {
  program
    .command('health')
    .summary('ask the agent of this host whether it lives')
    .option('--bus', 'fail as well while the agent is not subscribed on its broker')
    .option('--ready', 'fail as well while anything is missing that its work needs: what /readyz says')
    .option('--timeout <ms>', 'how long the answer may take, in milliseconds', '5000')
    .addHelpText(
      'after',
      '\nExit status: 0 it answers, 1 it does not. A broker that is away is no reason to restart an agent: --bus and --ready\n(broker, runtime, recovery, journal) are for readiness.\nExamples:\n  shiftvol health\n  shiftvol health --ready --timeout 4000',
    )
    .action(async (_options, command) => {
      const options: Options = command.optsWithGlobals();
      const [{ loadConfig }, { socketPath }, { askHealth }, { ShiftvolError }] = await Promise.all([
        import('../config/load.ts'),
        import('./engine-client.ts'),
        import('../http/agent-client.ts'),
        import('../errors.ts'),
      ]);
      const path = socketPath(loadConfig(options).runDir);
      const signal = AbortSignal.timeout(milliseconds(options.timeout, ShiftvolError));
      const health = await askHealth(path, signal, { ready: options.ready ?? false });
      if (health === undefined)
        throw new ShiftvolError('SV_AGENT', `Cannot hear from the agent at "${path}": nobody listens there`, {
          remedy: 'start it: shiftvol serve',
        });
      if (health.ill !== undefined)
        throw new ShiftvolError('SV_AGENT', `Cannot call the agent alive: pid ${health.pid}: ${health.ill}`, {
          remedy: 'start it anew; what is attached stays as it is',
        });
      if (health.missing !== undefined && health.missing.length > 0)
        throw new ShiftvolError(
          'SV_AGENT',
          `Cannot call the agent ready: pid ${health.pid}: ${health.missing.map(m => `${m.part}: ${m.what}`).join('; ')}`,
          { remedy: 'see its log, and what "shiftvol doctor" says' },
        );
      if (options.bus && health.bus?.healthy === false)
        throw new ShiftvolError(
          'SV_AGENT',
          `Cannot call the agent ready: pid ${health.pid} is not subscribed on its bus`,
          {
            remedy: 'see its log, and what "shiftvol doctor" says of the bus',
          },
        );
      const bus = health.bus === null ? 'without a bus' : health.bus.healthy ? 'subscribed' : 'not subscribed';
      process.stdout.write(options.json ? `${JSON.stringify(health)}\n` : `pid ${health.pid} lives, ${bus}\n`);
    });
};

function milliseconds(text: string, refusal: typeof import('../errors.ts').ShiftvolError): number {
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text);
  throw new refusal('SV_USAGE', `Cannot read --timeout ${JSON.stringify(text)}: accepted are 1 to 9999999 ms`, {
    field: '--timeout',
  });
}
