import { leftoverText, type Recovered } from '../engine/recover.ts';
import type { PlannedRecovery } from '../http/recover-plan.ts';
import type { DefineCommand, GlobalOptions } from './command.ts';
import { planTable } from './plan-table.ts';

/** A dry run says the steps too. */
type Answer = Omit<Recovered, 'attachments'> & {
  readonly attachments: readonly (Recovered['attachments'][number] & Partial<PlannedRecovery>)[];
};
type Options = GlobalOptions & { readonly dryRun?: boolean };

export const define: DefineCommand = program => {
  program
    .command('recover')
    .summary('end what a crash or a failed undo left open, and mount again what a reboot took')
    .option('--dry-run', 'say what would be done, and do nothing')
    .addHelpText(
      'after',
      '\nThe agent does this at its start, and then now and then. What cannot be ended is told with its reason, and the exit status is 1. A volume of Nova waits\nuntil Nova starts its instance: it may be on another host by now.\n\nExamples:\n  shiftvol recover --dry-run\n  shiftvol recover --json | jq -r \'.attachments[] | select(.did == "left") | .error.message\'',
    )
    .action(async (_options, command) => {
      const options: Options = command.optsWithGlobals();
      const { callEngine } = await import('./engine-client.ts');
      const { print } = await import('./output.ts');
      const answer = (await callEngine(options, { command: 'recover', dryRun: options.dryRun ?? false })) as Answer;
      print(options, answer, recoveredText);
      if ([...answer.attachments, ...answer.tasks].some(a => a.did === 'left')) process.exitCode = 1;
    });
};

function recoveredText({ attachments, tasks, leftovers, dryRun }: Answer): string {
  const lines = attachments.flatMap(a => [
    `${dryRun && a.did !== 'left' && a.did !== 'waits' ? 'would be ' : ''}${a.did}  ${a.instance}:${a.target} (was ${a.was})${a.error ? `: ${a.error.message}` : ''}`,
    ...(a.steps === undefined || a.steps.length === 0 ? [] : [planTable(a.steps)]),
  ]);
  for (const { did, task, instance, attachment, error } of tasks)
    lines.push(
      `${dryRun && did !== 'left' ? 'would be ' : ''}${did}  ${task} of ${attachment ?? instance}${error ? `: ${error.message}` : ''}`,
    );
  for (const l of leftovers) lines.push(leftoverText(l));
  return lines.length === 0 ? 'nothing to recover' : lines.join('\n');
}
