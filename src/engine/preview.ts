import type { Attachment, Command, Plan } from './model.ts';

/** One thing that would be done, and to what: the object of the call, not prose. */
export type PreviewStep = { readonly step: string; readonly call: string; readonly object: string };
export type Preview = {
  readonly dryRun: true;
  readonly action: Command['action'];
  readonly changed: boolean;
  readonly plan?: Plan;
  readonly steps: readonly PreviewStep[];
};

export function previewBuild(action: Command['action'], plan: Plan, templatePath: string | undefined): Preview {
  const steps: PreviewStep[] = [];
  const add = (step: string, call: string, object: string) => steps.push({ step, call, object });
  if (plan.snapshot !== undefined && !plan.snapshotKept)
    add('snapshot', 'ioctl(FICLONE)', `${templatePath ?? ''} -> ${plan.image.path}`);
  if (plan.image.kind === 'file') add('device', 'ioctl(LOOP_CONFIGURE)', plan.image.path);
  else add('device', 'open(O_EXCL)', plan.image.path);
  const extents = plan.idmap.map(e => `${e.kind === 'uid' ? 'u' : 'g'}:${e.fsId}:${e.hostId}:${e.count}`).join(' ');
  add(
    'mount',
    'fsopen+fsconfig+fsmount',
    `${plan.fsType ?? 'as probed'} ${plan.readOnly ? 'ro' : 'rw'},nodev${plan.role === 'root' ? '' : ',nosuid'}`,
  );
  add('mount', 'mount_setattr(MOUNT_ATTR_IDMAP)', extents);
  add('mount', 'move_mount', plan.mountPath);
  if (plan.handoff === 'device')
    add(
      'handoff',
      `${plan.runtime} device add`,
      `${plan.ref.ref} ${plan.deviceName} ${plan.mountPath} -> ${plan.target}`,
    );
  return { dryRun: true, action, changed: true, plan, steps };
}

export function previewRemoval(action: Command['action'], attachments: readonly Attachment[], lazy: boolean): Preview {
  const steps = attachments.flatMap(({ plan, status }): PreviewStep[] => {
    const mounted = status.state !== 'detached';
    const umount = lazy ? 'umount2(MNT_DETACH)' : 'umount2';
    return [
      ...(mounted && plan.handoff === 'device'
        ? [
            { step: 'leave', call: umount, object: `${plan.ref.ref}:${plan.target}` },
            {
              step: 'undo handoff',
              call: `${plan.runtime} device remove`,
              object: `${plan.ref.ref} ${plan.deviceName}`,
            },
          ]
        : []),
      ...(mounted ? [{ step: 'undo mount', call: `${umount}+rmdir`, object: plan.mountPath }] : []),
      ...(action === 'destroy' && plan.snapshot !== undefined
        ? [{ step: 'remove', call: 'unlink', object: plan.image.path }]
        : []),
    ];
  });
  return { dryRun: true, action, changed: steps.length > 0, steps };
}
