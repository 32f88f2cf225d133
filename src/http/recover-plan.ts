import type { Attachment } from '../engine/model.ts';
import { mountingSteps, type PreviewStep, removalSteps } from '../engine/preview.ts';
import type { Recovered, Recovery } from '../engine/recover.ts';

export type PlannedRecovery = Recovery & { readonly steps: readonly PreviewStep[] };

/** What a dry run of `recover` found, with the objects that would be touched: mounts, devices, snapshots. */
export function withSteps(
  found: Recovered,
  attachments: readonly Attachment[],
): Omit<Recovered, 'attachments'> & { readonly attachments: readonly PlannedRecovery[] } {
  const byId = new Map(attachments.map(a => [a.plan.id, a]));
  return {
    ...found,
    attachments: found.attachments.map(one => ({ ...one, steps: stepsOf(one, byId.get(one.attachment)) })),
  };
}

function stepsOf({ did }: Recovery, attachment: Attachment | undefined): readonly PreviewStep[] {
  if (!attachment) return [];
  const { plan, status } = attachment;
  const removal = (snapshot: boolean) => removalSteps(plan, { mounted: true, lazy: false, snapshot });
  switch (did) {
    case 'left':
    case 'waits':
      return [];
    case 'finished':
      if (status.state !== 'detaching') return [{ step: 'settle', call: 'journal', object: plan.id }];
      return removal(status.goal !== 'detach');
    case 'undone':
      return removal(!plan.snapshotKept);
    case 'mounted again':
      return mountingSteps(plan);
    default:
      return did satisfies never;
  }
}
