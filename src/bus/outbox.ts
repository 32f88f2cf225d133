import type { AttachmentEvent } from '../engine/model.ts';

/** An event that is to be told, with a number that never belongs to another one in this state directory. */
export type OutboxEntry = { readonly id: number; readonly event: AttachmentEvent };

/**
 * Events that are written together with what they tell of, and taken away when the broker has them: what happened is told at least
 * once, whatever dies in between.
 */
export interface Outbox {
  /** The oldest ones, in order, at most `limit`. */
  pending(limit: number): readonly OutboxEntry[];
  /** The broker has it. "Not there" is success. */
  sent(id: number): void;
  /** Calls `listener` after something was added; may call too often. Returns what takes the listener away again. */
  onAdded(listener: () => void): () => void;
}
