/** The engine's refusals, each with what to do about it. */
import { ShiftvolError } from '../errors.ts';
import { type Attachment, type InstanceRef, type Plan, sourceName } from './model.ts';

export function instanceNotFound({ ref, project }: InstanceRef, host: string): ShiftvolError {
  return new ShiftvolError(
    'SV_INSTANCE_NOT_FOUND',
    `Cannot find instance "${ref}"${project ? ` in project "${project}"` : ''} on host "${host}"`,
    {
      field: 'instance',
      remedy: 'give its name in the runtime or its Nova uuid; "shiftvol doctor" says which runtimes are seen',
    },
  );
}

export function readOnlyGrowth(): ShiftvolError {
  return new ShiftvolError(
    'SV_USAGE',
    'Cannot grow a volume that is attached read-only: its file system would be written to',
    {
      field: 'sizeBytes',
      remedy: 'leave the size out, or attach it writable',
    },
  );
}

export function attachmentNotFound(what: string): ShiftvolError {
  return new ShiftvolError('SV_ATTACHMENT_NOT_FOUND', `Cannot find an attachment for ${what}`, {
    remedy: '"shiftvol list" shows what there is',
  });
}

export function targetTaken({ plan, status }: Attachment): ShiftvolError {
  const held = plan.source.kind === 'template' ? `template "${plan.source.template}"` : `"${sourceName(plan.source)}"`;
  const kept = status.state === 'detached';
  return new ShiftvolError(
    'SV_TARGET_TAKEN',
    `Cannot attach at ${plan.instance}:${plan.target}: ${kept ? `a snapshot of ${held} is kept there` : `${held} is attached there${plan.readOnly ? ' read-only' : ''}`}`,
    {
      field: 'target',
      remedy: kept
        ? 'attach that again, or destroy it, or choose another target'
        : 'detach it first, or choose another target',
    },
  );
}

export function idsInUse({ plan, status }: Attachment): ShiftvolError {
  return new ShiftvolError(
    'SV_BUSY',
    `Cannot release the ids of "${plan.instance}": ${plan.target} is ${status.state} with them`,
    {
      remedy: `run "shiftvol destroy ${plan.instance}", which releases them too`,
    },
  );
}

export function rootInUse(key: string): ShiftvolError {
  return new ShiftvolError('SV_BUSY', `Cannot destroy the root file system of "${key}": the instance runs`, {
    remedy: 'stop it first',
  });
}

export function instanceThere(key: string): ShiftvolError {
  return new ShiftvolError('SV_BUSY', `Cannot make the root file system of "${key}" anew: the instance is there`, {
    remedy: 'it is tried again; remove the instance first',
  });
}

export function mountedElsewhere({ plan }: Attachment, rootPath: string): ShiftvolError {
  return new ShiftvolError(
    'SV_TARGET_TAKEN',
    `Cannot mount the root file system of "${plan.instance}" at "${rootPath}": it is mounted at "${plan.mountPath}"`,
    { remedy: 'make the instance again with that path, or destroy its root file system first' },
  );
}

export function anotherFileSystem({ instance, target, source }: Plan, before: string, now: string): ShiftvolError {
  return new ShiftvolError(
    'SV_VOLUME_NOT_FOUND',
    `Cannot mount ${instance}:${target} again: where "${sourceName(source)}" was there is the file system ${now}, it had ${before}`,
    {
      field: 'source',
      remedy: 'attach it anew as it is reached now ("openstack server reboot --hard" does), or detach it if it is gone',
    },
  );
}

export function volumeInUse(
  { image }: { readonly image: { readonly path: string } },
  { plan, status }: Attachment,
): ShiftvolError {
  return new ShiftvolError(
    'SV_VOLUME_IN_USE',
    `Cannot attach "${image.path}": it is ${status.state} at ${plan.instance}:${plan.target}`,
    { field: 'source', remedy: 'detach it there first' },
  );
}

export function unfinished({ plan, status }: Attachment, cause?: unknown): ShiftvolError {
  return new ShiftvolError('SV_BUSY', `Cannot change ${plan.instance}:${plan.target}: it is ${status.state}`, {
    remedy: 'run "shiftvol recover", which finishes it or says what stands in the way',
    ...(cause === undefined ? {} : { cause }),
  });
}

export function internal(plan: Plan, what: string): ShiftvolError {
  return new ShiftvolError('SV_INTERNAL', `Cannot go on with attachment ${plan.id}: ${what}`);
}
