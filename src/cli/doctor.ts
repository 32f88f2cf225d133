import type { Check } from '../doctor/check.ts';
import type { DefineCommand, GlobalOptions } from './command.ts';

type Options = GlobalOptions & { readonly fix?: boolean; readonly yes?: boolean };

export const define: DefineCommand = program => {
  program
    .command('doctor')
    .summary('say what this host has, what it lacks, and what to do about each')
    .option(
      '--fix',
      'afterwards set up what can be: directories, ids, the loop module, a pool; each is said, and asked for',
    )
    .option('-y, --yes', 'with --fix: do not ask')
    .addHelpText(
      'after',
      '\nEvery feature is tried, and nothing is left behind. Exit status: 0 all that is needed is there, 5 something is missing.\nExample:\n  shiftvol doctor --json | jq -r \'.checks[] | select(.ok != true) | "\\(.check): \\(.remedy)"\'',
    )
    .action(async (_options, command) => {
      const options: Options = command.optsWithGlobals();
      const [{ loadConfig }, { socketPath }, { examine, isFit }, { EXIT }] = await Promise.all([
        import('../config/load.ts'),
        import('./engine-client.ts'),
        import('../doctor/examine.ts'),
        import('../errors.ts'),
      ]);
      const config = loadConfig(options);
      const stop = new AbortController();
      process.once('SIGINT', () => stop.abort()).once('SIGTERM', () => stop.abort());
      const { checkText, summaryText, topicOf } = await import('./show-checks.ts');
      const checks: Check[] = [];
      const [{ LazyCloud }, { cloudLook }] = await Promise.all([import('./lazy-cloud.ts'), import('./cloud-look.ts')]);
      using lazy = new LazyCloud(config, undefined);
      const cloud = cloudLook(lazy);
      for await (const check of examine({
        config,
        socketPath: socketPath(config.runDir),
        cloud,
        signal: stop.signal,
      })) {
        stop.signal.throwIfAborted();
        if (!options.json) process.stdout.write(`${checkText(check, topicOf(checks.at(-1)) !== topicOf(check))}\n`);
        checks.push(check);
      }
      const ok = isFit(checks);
      if (!options.json) process.stdout.write(`\n${summaryText(checks)}\n`);
      const fixes =
        options.fix === true
          ? await (await import('./doctor-fix.ts')).fix(checks, config, {
              yes: options.yes ?? false,
              signal: stop.signal,
            })
          : undefined;
      if (options.json) process.stdout.write(`${JSON.stringify({ ok, checks, ...(fixes && { fixes }) })}\n`);
      if (!ok) process.exitCode = EXIT.host;
    });
};
