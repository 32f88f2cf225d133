import type { Attachment, AttachmentState, InstanceKey, Plan } from '../engine/model.ts';
import type { Allocation } from '../engine/ports.ts';

type Row = Record<string, unknown>;

/** The journal is ours alone (0600, one writer): what it holds is trusted to be what was written. */
export function toAttachment(row: Row): Attachment {
  return {
    plan: JSON.parse(String(row['plan'])) as Plan,
    status: JSON.parse(String(row['status'])) as AttachmentState,
    ...(row['request_id'] === null ? {} : { requestId: String(row['request_id']) }),
    createdAt: String(row['created_at']),
    updatedAt: String(row['updated_at']),
  };
}

export function toAllocation(row: Row): Allocation {
  const count = Number(row['count']);
  return {
    instance: String(row['instance']) as InstanceKey,
    uid: { start: Number(row['uid_start']), count },
    gid: { start: Number(row['gid_start']), count },
    createdAt: String(row['created_at']),
  };
}
