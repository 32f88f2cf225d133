import type { EngineDeps } from './deps.ts';
import { type Attachment, type Command, isSettled, type Plan } from './model.ts';
import { mapOfAllocation, planSpawn } from './plan.ts';
import { findToDestroy, findToDetach, prepareAttach, prepareSpawn, type Settle } from './prepare.ts';
import { unfinished } from './refuse.ts';
import { resolve } from './resolve.ts';

/** One thing that would be done, and to what: the object of the call, not prose. */
export type PreviewStep = { readonly step: string; readonly call: string; readonly object: string };
export type Preview = {
  readonly dryRun: true;
  readonly action: Command['action'];
  readonly changed: boolean;
  readonly plan?: Plan;
  readonly steps: readonly PreviewStep[];
};

/** What a command would do. @throws what the command would be refused with; SV_BUSY: an earlier one is unfinished */
export async function preview(deps: EngineDeps, command: Command, signal: AbortSignal): Promise<Preview> {
  const resolved = await resolve(deps, command.instance, signal);
  const unchanged: Preview = { dryRun: true, action: command.action, changed: false, steps: [] };
  switch (command.action) {
    case 'attach': {
      const prepared = await prepareAttach(deps, command, resolved, onlyLook);
      return 'plan' in prepared ? previewBuild('attach', prepared.plan, prepared.template?.path) : unchanged;
    }
    case 'spawn': {
      const prepared = await prepareSpawn(deps, command, resolved, onlyLook);
      if (!('template' in prepared)) return unchanged;
      const { template, context } = prepared;
      const map = resolved.instance?.idmap ?? mapOfAllocation(await deps.allocator.preview(resolved.key, { signal }));
      return previewBuild('spawn', planSpawn(command, resolved.key, map, template, context), template.path);
    }
    case 'detach':
      return previewRemoval('detach', [findToDetach(deps, command, resolved.key)], command.lazy);
    case 'destroy':
      return previewRemoval('destroy', findToDestroy(deps, command, resolved.key), command.lazy);
    default:
      return command satisfies never;
  }
}

/** A dry run does not end what is unfinished. */
const onlyLook: Settle = async attachment => {
  if (attachment && !isSettled(attachment)) throw unfinished(attachment);
  return attachment;
};

function previewBuild(action: Command['action'], plan: Plan, templatePath: string | undefined): Preview {
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

function previewRemoval(action: Command['action'], attachments: readonly Attachment[], lazy: boolean): Preview {
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
