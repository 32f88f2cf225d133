/** Instances whose mounts stand still for a snapshot that somebody else takes. */
import { ShiftvolError } from '../errors.ts';
import type { EngineDeps } from './deps.ts';
import { isAttached } from './extend.ts';
import type { InstanceKey, InstanceRef, Task } from './model.ts';
import type { InOrder } from './queue.ts';
import { resolve } from './resolve.ts';
import type { Tasks } from './tasks.ts';
import type { Frozen } from './volume-ports.ts';

export type FreezeOptions = { readonly deadlineMs?: number; readonly signal: AbortSignal };
type Held = { readonly frozen: Frozen; readonly task: Task; readonly paths: ReadonlySet<string> };

export class Standstills {
  readonly #deps: EngineDeps;
  readonly #tasks: Tasks;
  readonly #inOrder: InOrder;
  readonly #held = new Map<InstanceKey, Held>();

  constructor(deps: EngineDeps, tasks: Tasks, inOrder: InOrder) {
    this.#deps = deps;
    this.#tasks = tasks;
    this.#inOrder = inOrder;
  }

  /**
   * Lets all that is attached to an instance stand still until `thaw`, or the deadline: for a snapshot that somebody else takes. Nothing
   * else is done to the instance meanwhile but snapshots. Frozen already is success, until the deadline of the first.
   * @throws SV_TIMEOUT: more is written than the deadline allows; SV_BUSY: somebody else has frozen it
   */
  async freeze(ref: InstanceRef, { deadlineMs = this.#deps.freezeDeadlineMs, signal }: FreezeOptions): Promise<void> {
    const { key } = await resolve(this.#deps, ref, signal);
    await this.#inOrder(key, async () => {
      if (this.#held.has(key)) return;
      const paths = this.#deps.journal
        .list(key)
        .filter(a => isAttached(a) && !a.plan.readOnly)
        .map(a => a.plan.mountPath);
      const task: Task = { id: `freeze-${key}`, kind: 'freeze', instance: key, frozen: paths };
      const lease = this.#tasks.keep(task);
      try {
        const frozen = await this.#deps.freezer.freeze(paths, { deadlineMs, signal });
        const held: Held = { frozen, task, paths: new Set(paths) };
        this.#held.set(key, held);
        // At the deadline at the latest.
        frozen.ended.then(async () => {
          if (this.#held.get(key) === held) this.#held.delete(key);
          await lease.end(async () => undefined);
        });
      } catch (error) {
        await lease.end(async () => undefined);
        throw error;
      }
    });
  }

  /** @throws SV_TIMEOUT: it stands still no more, since the deadline: what was copied meanwhile may be torn */
  async thaw(ref: InstanceRef, signal: AbortSignal): Promise<{ readonly frozenMs: number }> {
    const { key } = await resolve(this.#deps, ref, signal);
    const held = this.#held.get(key);
    if (held) return await held.frozen.thaw();
    throw new ShiftvolError('SV_TIMEOUT', `Cannot thaw "${key}": nothing of it is frozen, or not any more`, {
      remedy: 'freeze it again, with a longer deadline',
    });
  }

  /** @throws SV_BUSY: what is attached to the instance stands still */
  requireMoving(key: InstanceKey): void {
    if (this.#held.has(key)) throw standsStill(key);
  }

  /** What this mount of the instance stands still by. */
  of(key: InstanceKey, path: string): Frozen | undefined {
    const held = this.#held.get(key);
    return held?.paths.has(path) ? held.frozen : undefined;
  }
}

function standsStill(key: InstanceKey): ShiftvolError {
  return new ShiftvolError('SV_BUSY', `Cannot change what is attached to "${key}": it is frozen for a snapshot`, {
    remedy: 'wait: it ends at its deadline',
  });
}
