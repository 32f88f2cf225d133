import type { EngineDeps } from './deps.ts';
import { findToExtend } from './extend.ts';
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
      if (!('context' in prepared)) return unchanged;
      const { context } = prepared;
      const map = resolved.instance?.idmap ?? mapOfAllocation(await deps.allocator.preview(resolved.key, { signal }));
      return previewBuild('spawn', planSpawn(command, resolved.key, map, context), context.template?.path);
    }
    case 'detach':
      return previewRemoval('detach', findToDetach(deps, command, resolved.key), command.lazy);
    case 'destroy':
      return previewRemoval('destroy', findToDestroy(deps, command, resolved.key), command.lazy);
    case 'extend': {
      const { plan } = findToExtend(deps, command, resolved.key);
      return { dryRun: true, action: 'extend', changed: true, steps: growingSteps(plan, command.sizeBytes) };
    }
    default:
      return command satisfies never;
  }
}

function growingSteps({ image, mountPath }: Plan, sizeBytes: number | undefined): readonly PreviewStep[] {
  const object = `${image.path}${sizeBytes === undefined ? '' : ` to ${sizeBytes}`}`;
  return [
    ...(image.kind === 'file' ? [{ step: 'enlarge', call: 'ftruncate+ioctl(LOOP_SET_CAPACITY)', object }] : []),
    { step: 'grow', call: 'ioctl(EXT4_IOC_RESIZE_FS, XFS_IOC_FSGROWFSDATA or BTRFS_IOC_RESIZE)', object: mountPath },
  ];
}

/** A dry run does not end what is unfinished. */
const onlyLook: Settle = async attachment => {
  if (attachment && !isSettled(attachment)) throw unfinished(attachment);
  return attachment;
};

function previewBuild(action: Command['action'], plan: Plan, templatePath: string | undefined): Preview {
  const snapshot =
    plan.snapshot !== undefined && !plan.snapshotKept
      ? [{ step: 'snapshot', call: 'ioctl(FICLONE)', object: `${templatePath ?? ''} -> ${plan.image.path}` }]
      : [];
  return { dryRun: true, action, changed: true, plan, steps: [...snapshot, ...mountingSteps(plan)] };
}

/** From the image to the container. */
export function mountingSteps(plan: Plan): readonly PreviewStep[] {
  const { image, mountPath, ref, role, target } = plan;
  const extents = plan.idmap.map(e => `${e.kind === 'uid' ? 'u' : 'g'}:${e.fsId}:${e.hostId}:${e.count}`).join(' ');
  const options = `${plan.fsType ?? 'as probed'} ${plan.readOnly ? 'ro' : 'rw'},nodev${role === 'root' ? '' : ',nosuid'}`;
  const handoff = `${ref.ref} ${plan.deviceName} ${mountPath} -> ${target}`;
  return [
    ...connecting(plan, 'connect'),
    { step: 'device', call: image.kind === 'file' ? 'ioctl(LOOP_CONFIGURE)' : 'open(O_EXCL)', object: image.path },
    { step: 'mount', call: 'fsopen+fsconfig+fsmount', object: options },
    { step: 'mount', call: 'mount_setattr(MOUNT_ATTR_IDMAP)', object: extents },
    { step: 'mount', call: 'move_mount', object: mountPath },
    ...(plan.handoff === 'device' ? [{ step: 'handoff', call: `${plan.runtime} device add`, object: handoff }] : []),
  ];
}

function connecting({ source }: Plan, call: 'connect' | 'disconnect'): readonly PreviewStep[] {
  if (source.kind !== 'connection') return [];
  const { type, name } = source.connection;
  return [{ step: call === 'connect' ? 'connect' : 'undo connect', call: `${type} ${call}`, object: name }];
}

function previewRemoval(action: Command['action'], attachments: readonly Attachment[], lazy: boolean): Preview {
  const steps = attachments.flatMap(({ plan, status }) => {
    const mounted = status.state !== 'detached';
    const leave = { step: 'leave', call: umountCall(lazy), object: `${plan.ref.ref}:${plan.target}` };
    return [
      ...(mounted && plan.handoff === 'device' ? [leave] : []),
      ...removalSteps(plan, { mounted, lazy, snapshot: action === 'destroy' }),
    ];
  });
  return { dryRun: true, action, changed: steps.length > 0, steps };
}

/** From the container back to the image, and with `snapshot` without it. */
export function removalSteps(
  plan: Plan,
  { mounted, lazy, snapshot }: { readonly mounted: boolean; readonly lazy: boolean; readonly snapshot: boolean },
): readonly PreviewStep[] {
  const handoff = {
    step: 'undo handoff',
    call: `${plan.runtime} device remove`,
    object: `${plan.ref.ref} ${plan.deviceName}`,
  };
  return [
    ...(mounted && plan.handoff === 'device' ? [handoff] : []),
    ...(mounted ? [{ step: 'undo mount', call: `${umountCall(lazy)}+rmdir`, object: plan.mountPath }] : []),
    ...(mounted ? connecting(plan, 'disconnect') : []),
    ...(snapshot && plan.snapshot !== undefined ? [{ step: 'remove', call: 'unlink', object: plan.image.path }] : []),
  ];
}

function umountCall(lazy: boolean): string {
  return lazy ? 'umount2(MNT_DETACH)' : 'umount2';
}
