/**
 * Gets replies to their callers, over whichever connection there is: one that was lost in the middle of a call is waited for. A caller's
 * queue may be away for a moment (its broker restarted, and it comes back after us), or for good.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ShiftvolError } from '../../errors.ts';
import { LimitedLines } from '../../log/limit.ts';
import type { Log } from '../../log/log.ts';
import { type BusChannel, UnroutableError } from '../channel.ts';
import { encode } from '../envelope.ts';
import { Recent } from '../recent.ts';

/** oslo.messaging's own times: each 0.25 s for a minute, then nothing is sent there for another. */
const RETRY_MS = 250;
const RETRY_FOR_MS = 60_000;
const GONE_FOR_MS = 60_000;
const GONE_QUEUES = 200;
/** Queues that are looked for at once: whoever names queues that are not there must not have us publish all the time. */
const MAX_SEARCHED = 200;
/** What may wait for a connection or for callers' queues; each reply counts for at least MIN_BYTES. */
const MAX_HELD_BYTES = 64 * 2 ** 20;
const MIN_BYTES = 1024;

export type Address = { readonly queue: string; readonly messageId: string };
/** `failure` is what failureOf makes of an error. */
export type Reply = { readonly result?: unknown; readonly failure?: string };
export type RepliesOptions = {
  readonly log: Log;
  /** A reply above this is none: the caller is told so. */
  readonly maxBytes: number;
  /** How long a caller's queue is looked for; default: a minute. */
  readonly retryForMs?: number;
};
type Encoded = ReturnType<typeof encode>;

export class Replies {
  readonly counters = { sent: 0, undeliverable: 0 };
  readonly #dropped: LimitedLines;
  readonly #maxBytes: number;
  readonly #retryForMs: number;
  readonly #underWay = new Set<Promise<void>>();
  /** Queues that are not there, and whether they come back. */
  readonly #missing = new Map<string, Promise<boolean>>();
  /** Until when nothing is sent there. */
  readonly #gone = new Recent<number>(GONE_QUEUES);
  #heldBytes = 0;
  #channel: BusChannel | undefined;
  #next = Promise.withResolvers<BusChannel>();

  constructor({ log, maxBytes, retryForMs = RETRY_FOR_MS }: RepliesOptions) {
    this.#dropped = new LimitedLines(log, 'warn');
    this.#maxBytes = maxBytes;
    this.#retryForMs = retryForMs;
  }

  /** From now on replies go out here, those that waited first. */
  use(channel: BusChannel): void {
    this.#channel = channel;
    this.#next.resolve(channel);
    this.#next = Promise.withResolvers();
  }

  /**
   * Returns at once; what comes of it is told by nobody but the counters and the log.
   * @throws TypeError where the result is no JSON; SV_INTERNAL where the reply is too large
   */
  send(to: Address, reply: Reply): void {
    const encoded = encodeReply(to, reply, true);
    if (encoded.content.length > this.#maxBytes)
      throw new ShiftvolError(
        'SV_INTERNAL',
        `Cannot reply: ${encoded.content.length} bytes, at most ${this.#maxBytes} are sent`,
      );
    const work = this.#deliver(to, encoded);
    this.#underWay.add(work);
    work.finally(() => this.#underWay.delete(work));
  }

  /** Says that it goes on. One that does not get there is not sent again: the next will come. */
  heartbeat(to: Address): void {
    if (this.#missing.has(to.queue) || this.#isGone(to.queue)) return;
    const work = this.#open(performance.now() + RETRY_MS).then(channel =>
      channel ? publish(channel, to, encodeReply(to, {}, false)) : undefined,
    );
    work.catch(() => undefined); // as it says above
  }

  /** Resolves when none is under way, or the time is over. */
  async settled(timeoutMs: number): Promise<void> {
    await Promise.race([Promise.allSettled(this.#underWay), sleep(timeoutMs, undefined, { ref: false })]);
  }

  async #deliver(to: Address, encoded: Encoded): Promise<void> {
    const bytes = Math.max(encoded.content.length, MIN_BYTES);
    if (this.#heldBytes + bytes > MAX_HELD_BYTES) {
      this.#giveUp(to, 'too much waits already');
      return;
    }
    this.#heldBytes += bytes;
    try {
      const until = performance.now() + this.#retryForMs;
      for (;;) {
        const there = this.#isGone(to.queue) ? false : await (this.#missing.get(to.queue) ?? true);
        if (!there) return this.#giveUp(to, 'the caller’s queue is gone');
        const outcome = await this.#attempt(to, encoded, until);
        if (outcome === 'sent') return;
        if (outcome === 'over') return this.#giveUp(to, 'there was no connection in time');
        if (this.#missing.has(to.queue)) continue; // found out by another reply at the same time
        if (this.#missing.size >= MAX_SEARCHED)
          return this.#giveUp(to, 'too many callers’ queues are looked for already');
        if (await this.#search(to, encoded, until)) return;
      }
    } finally {
      this.#heldBytes -= bytes;
    }
  }

  /** Over the connections that there are until then: 'missing' where the broker has no such queue. Never rejects. */
  async #attempt(to: Address, encoded: Encoded, until: number): Promise<'sent' | 'missing' | 'over'> {
    for (;;) {
      const channel = await this.#open(until);
      if (channel === undefined) return 'over';
      try {
        await publish(channel, to, encoded);
        this.counters.sent++;
        return 'sent';
      } catch (error) {
        if (error instanceof UnroutableError) return 'missing';
        // Lost on the way, so it may be sent twice: the first one counts.
        if (!channel.signal.aborted) await sleep(RETRY_MS);
      }
    }
  }

  /** Looks for a queue with its first reply; others that go there wait for what comes of it. */
  async #search(to: Address, encoded: Encoded, until: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#missing.set(to.queue, promise);
    let sent = false;
    while (!sent && performance.now() < until) {
      await sleep(RETRY_MS);
      sent = (await this.#attempt(to, encoded, until)) === 'sent';
    }
    if (!sent) this.#gone.set(to.queue, performance.now() + GONE_FOR_MS);
    this.#missing.delete(to.queue);
    resolve(sent);
    return sent;
  }

  #isGone(queue: string): boolean {
    const until = this.#gone.get(queue);
    return until !== undefined && performance.now() < until;
  }

  #giveUp({ queue, messageId }: Address, why: string): void {
    this.counters.undeliverable++;
    this.#dropped.say('a reply was dropped', { why, queue, message_id: messageId });
  }

  /** The channel that is open, else the next one; undefined where the time is over. */
  async #open(until: number): Promise<BusChannel | undefined> {
    for (;;) {
      const left = Math.ceil(until - performance.now());
      if (left <= 0) return undefined;
      if (this.#channel && !this.#channel.signal.aborted) return this.#channel;
      const over = new AbortController();
      try {
        await Promise.race([this.#next.promise, sleep(left, undefined, { signal: over.signal })]);
      } finally {
        over.abort();
      }
    }
  }
}

/** `result`, `failure`, `ending` and `_msg_id` have to be there: Python's caller looks them up without asking. */
function encodeReply({ messageId }: Address, { result = null, failure = null }: Partial<RawReply>, ending: boolean) {
  return encode({ result, failure, ending, _msg_id: messageId, _unique_id: uniqueId() });
}
type RawReply = { readonly result: unknown; readonly failure: string | null };

function uniqueId(): string {
  return crypto.randomUUID().replaceAll('-', '');
}

function publish(channel: BusChannel, { queue }: Address, { content, ...properties }: Encoded): Promise<void> {
  return channel.publish('', queue, content, { ...properties, persistent: false }, { mandatory: true });
}
