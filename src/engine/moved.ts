/** An instance has come from another host: noted with its root file system, and told. */

import type { EngineDeps } from './deps.ts';
import { isAttached } from './extend.ts';
import type { InstanceKey, InstanceRef, Moved } from './model.ts';
import { attachmentNotFound } from './refuse.ts';

export type Move = Omit<Moved, 'at'> & { readonly instance: InstanceRef; readonly requestId?: string };

/** `shiftvol.move.end`, whose duration is how long the instance was down. Again is told again. The note stays until the root is mounted anew. @throws SV_ATTACHMENT_NOT_FOUND: its root is not attached here */
export async function noteMove(
  { journal, host }: EngineDeps,
  key: InstanceKey,
  { from, downMs, requestId }: Move,
): Promise<void> {
  const root = journal.list(key).find(({ plan }) => plan.role === 'root');
  if (!root || !isAttached(root)) throw attachmentNotFound(`the root of "${key}"`);
  const at = new Date().toISOString();
  const { id, target, volumeId, source } = root.plan;
  journal.settle(
    id,
    { ...root.status, moved: { from, downMs, at } },
    {
      events: [
        {
          action: 'move',
          phase: 'end',
          instance: key,
          attachmentId: id,
          target,
          host,
          at,
          durationMs: downMs,
          ...(source.kind === 'template' ? { template: source.template } : {}),
          ...(volumeId === undefined ? {} : { volumeId }),
          ...(requestId === undefined ? {} : { requestId }),
        },
      ],
    },
  );
  await journal.flushed();
}
