import type { Attachment } from '../engine/model.ts';
import type { PreviewStep } from '../engine/preview.ts';
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
  const handed = `${plan.ref.ref} ${plan.deviceName}`;
  switch (did) {
    case 'left':
      return [];
    case 'finished':
      if (status.state !== 'detaching') return [{ step: 'settle', call: 'journal', object: plan.id }];
      return removal(attachment, status.goal !== 'detach');
    case 'undone':
      return removal(attachment, !plan.snapshotKept);
    case 'mounted again':
      return [
        plan.image.kind === 'file'
          ? { step: 'device', call: 'ioctl(LOOP_CONFIGURE)', object: plan.image.path }
          : { step: 'device', call: 'open(O_EXCL)', object: plan.image.path },
        { step: 'mount', call: 'move_mount', object: plan.mountPath },
        ...(plan.handoff === 'device' ? [{ step: 'handoff', call: `${plan.runtime} device add`, object: handed }] : []),
      ];
    default:
      return did satisfies never;
  }
}

function removal({ plan }: Attachment, withSnapshot: boolean): readonly PreviewStep[] {
  const device = {
    step: 'undo handoff',
    call: `${plan.runtime} device remove`,
    object: `${plan.ref.ref} ${plan.deviceName}`,
  };
  return [
    ...(plan.handoff === 'device' ? [device] : []),
    { step: 'undo mount', call: 'umount2+rmdir', object: plan.mountPath },
    ...(withSnapshot && plan.snapshot !== undefined
      ? [{ step: 'remove', call: 'unlink', object: plan.image.path }]
      : []),
  ];
}
