import type { Attachment, AttachmentState, Moved, Source } from '../engine/model.ts';
import type { ErrorReport } from '../errors.ts';

/** An attachment as it is told to the world: `--json`, the API, the page. The names are stable. */
export type AttachmentView = {
  readonly id: string;
  readonly instance: string;
  readonly project?: string;
  readonly target: string;
  readonly role: 'root' | 'volume';
  readonly source: Source;
  readonly state: AttachmentState['state'];
  readonly readOnly: boolean;
  readonly volumeId?: string;
  readonly device?: string;
  readonly fsType?: string;
  /** Where the mapped mount is on the host. */
  readonly hostPath: string;
  readonly image: string;
  readonly extents: Attachment['plan']['idmap'];
  readonly error?: ErrorReport;
  /** Of a root: its instance came from this host, and was down for so long. */
  readonly moved?: Moved;
  readonly createdAt: string;
  readonly updatedAt: string;
};

/** All, or those of one instance: by its key, or by the name that it was asked for with. */
export function listView(attachments: readonly Attachment[], instance?: string): readonly AttachmentView[] {
  return attachments
    .filter(({ plan }) => instance === undefined || plan.instance === instance || plan.ref.ref === instance)
    .map(viewOf);
}

export function viewOf({ plan, status, createdAt, updatedAt }: Attachment): AttachmentView {
  return {
    id: plan.id,
    instance: plan.instance,
    ...(plan.ref.project !== undefined && { project: plan.ref.project }),
    target: plan.target,
    role: plan.role,
    source: plan.source,
    state: status.state,
    readOnly: plan.readOnly,
    ...(plan.volumeId !== undefined && { volumeId: plan.volumeId }),
    ...(status.state === 'attached'
      ? { device: status.device, fsType: status.fsType }
      : plan.fsType && { fsType: plan.fsType }),
    hostPath: plan.mountPath,
    image: plan.image.path,
    extents: plan.idmap,
    ...('error' in status && status.error && { error: status.error }),
    ...('moved' in status && status.moved && { moved: status.moved }),
    createdAt,
    updatedAt,
  };
}
