import type { Command } from '../engine/model.ts';
import { Recent } from './recent.ts';

/**
 * Who has the last word on a volume or a root file system. A message that was put aside is void when the opposite was asked for after it
 * came: an attach would bring back what is gone, a detach would take away what was attached anew.
 */
export class Wishes {
  /** By instance, or `instance/volume`: when it was last wished there, and when away. */
  readonly #there: Recent<number>;
  readonly #away: Recent<number>;
  /** One request is told in several forms, the last of them late: only the first is a wish. */
  readonly #requests: Recent<number>;
  #last = 0;

  /** `window`: how many of each are remembered. */
  constructor(window: number) {
    this.#there = new Recent(window);
    this.#away = new Recent(window);
    this.#requests = new Recent(window);
  }

  /** Notes what is asked for. Returns when that was, in milliseconds since 1970; never the same twice, so that there is an order. */
  note(command: Command): number {
    const { requestId } = command;
    const earlier = requestId === undefined ? undefined : this.#requests.get(requestId);
    if (earlier !== undefined) return earlier;
    this.#last = Math.max(Date.now(), this.#last + 1);
    if (requestId !== undefined) this.#requests.set(requestId, this.#last);
    (wishesThere(command) ? this.#there : this.#away).set(subjectOf(command), this.#last);
    return this.#last;
  }

  /** `firstSeenMs`: when the message came that was put aside. */
  isVoid(command: Command, firstSeenMs: number): boolean {
    const since = (at: number | undefined) => at !== undefined && at > firstSeenMs;
    const subject = subjectOf(command);
    if (!wishesThere(command)) return since(this.#there.get(subject));
    return since(this.#away.get(subject)) || since(this.#away.get(command.instance.ref));
  }
}

function wishesThere({ action }: Command): boolean {
  return action === 'attach' || action === 'spawn';
}

function subjectOf(command: Command): string {
  const { ref } = command.instance;
  return command.action === 'attach' || command.action === 'detach' ? `${ref}/${command.volumeId ?? ''}` : ref;
}
