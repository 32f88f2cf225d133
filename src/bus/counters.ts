import { IGNORED_REASONS, type IgnoredReason } from '../events/happening.ts';

/** What became of messages since the start. `received` is all that the broker gave us, redeliveries included. */
export type Counters = {
  received: number;
  /** Of those, what the broker had given to somebody before. */
  redelivered: number;
  /** Commands that were carried out. */
  handled: number;
  /** Told before, by a redelivery or on another topic. */
  duplicate: number;
  /** Put aside to be tried again. */
  retried: number;
  /** Given to the dead letters by us. */
  dead: number;
  /** Given back to the broker, since neither of these could be done. */
  requeued: number;
  readonly ignored: Record<IgnoredReason, number>;
};

export function newCounters(): Counters {
  const none = Object.fromEntries(IGNORED_REASONS.map(r => [r, 0])) as Record<IgnoredReason, number>; // fromEntries forgets the keys
  return { received: 0, redelivered: 0, handled: 0, duplicate: 0, retried: 0, dead: 0, requeued: 0, ignored: none };
}
