import type { Recovered } from '../engine/recover.ts';
import type { DefineCommand, GlobalOptions } from './command.ts';

type Options = GlobalOptions & { readonly dryRun?: boolean };

export const define: DefineCommand = program => {
  program
    .command('recover')
    .summary('end what a crash or a failed undo left open, and mount again what a reboot took')
    .option('--dry-run', 'say what would be done, and do nothing')
    .addHelpText(
      'after',
      '\nThe agent does this at its start. What cannot be ended is told with its reason, and the exit status is 1.',
    )
    .action(async (_options, command) => {
      const options: Options = command.optsWithGlobals();
      const { callEngine } = await import('./engine-client.ts');
      const { print } = await import('./output.ts');
      const answer = (await callEngine(options, { command: 'recover', dryRun: options.dryRun ?? false })) as Recovered;
      print(options, answer, recoveredText);
      if (answer.attachments.some(a => a.did === 'left')) process.exitCode = 1;
    });
};

function recoveredText({ attachments, leftovers, dryRun }: Recovered): string {
  const lines = attachments.map(
    a =>
      `${dryRun && a.did !== 'left' ? 'would be ' : ''}${a.did}  ${a.instance}:${a.target} (was ${a.was})${a.error ? `: ${a.error.message}` : ''}`,
  );
  for (const l of leftovers) lines.push(`not ours by the journal, left alone: ${l.kind} ${l.what}`);
  return lines.length === 0 ? 'nothing to recover' : lines.join('\n');
}
