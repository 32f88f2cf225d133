/** Tasks: work that is noted in the journal before it begins, beside the sagas of attachments; and what becomes of those that a crash cut. */
import { type ErrorReport, report, ShiftvolError } from '../errors.ts';
import type { EngineDeps } from './deps.ts';
import { extendNow, isAttached } from './extend.ts';
import type { Attachment, AttachmentId, InstanceKey, Task } from './model.ts';
import type { Also } from './ports.ts';
import { mountAgain } from './remount.ts';
import { resolve } from './resolve.ts';
import { unwind } from './saga.ts';
import type { Steps } from './steps.ts';
import { endSwap, isSwapped, letGoOfFormer } from './swap.ts';

/** `finished`: done to its end; `undone`: as if it had not begun; `left`: something stands in the way. */
export type TaskRecovery = {
  readonly task: Task['kind'];
  readonly instance: InstanceKey;
  readonly attachment?: AttachmentId;
  readonly did: 'finished' | 'undone' | 'left';
  readonly error?: ErrorReport;
};

/** A task that lasts longer than the call that began it. */
export type Lease = { end(work: () => Promise<void>): Promise<void> };
type RestoreTask = Extract<Task, { kind: 'restore' }>;
type SwapTask = Extract<Task, { kind: 'swap' }>;

export class Tasks {
  readonly #deps: EngineDeps;
  readonly #steps: Steps;
  /** Under way in this process: not for recover to end. */
  readonly #live = new Set<Task['id']>();
  /** Instances that an earlier run, or an undo that failed, left a task for. */
  readonly #left: Set<InstanceKey>;

  constructor(deps: EngineDeps, steps: Steps) {
    this.#deps = deps;
    this.#steps = steps;
    this.#left = new Set(deps.journal.tasks().map(task => task.instance));
  }

  /** Notes a task, does it, and notes its end; or undoes it. Called in the order of its instance. */
  async run<T>(task: Task, work: () => Promise<T>): Promise<T> {
    this.#deps.journal.noteTask(task, {});
    try {
      const result = await work();
      this.#deps.journal.endTask(task.id, {});
      return result;
    } catch (error) {
      await this.#endOrLeave(task, () => this.#recoverTask(task, AbortSignal.timeout(UNDO_MS)));
      throw error;
    }
  }

  /** A swap: undone if it fails. What becomes of the old volume after it is no failure of it. */
  async swap<T>(task: SwapTask, opening: Also, work: () => Promise<T>): Promise<T> {
    this.#deps.journal.noteTask(task, opening);
    let result: T;
    try {
      result = await work();
    } catch (error) {
      // Not the task as it began: it was noted again on the way.
      const noted = this.#deps.journal.tasks(task.instance).find(t => t.id === task.id) ?? task;
      await this.#endOrLeave(noted, () => this.#recoverTask(noted, AbortSignal.timeout(UNDO_MS)));
      throw error;
    }
    await this.#endOrLeave(task, () => letGoOfFormer(this.#deps, task, AbortSignal.timeout(UNDO_MS)));
    return result;
  }

  /** Notes a task that is this process's own until it is ended. */
  keep(task: Task): Lease {
    this.#live.add(task.id);
    this.#deps.journal.noteTask(task, {});
    return {
      end: async work => {
        if (!this.#live.delete(task.id)) return;
        await this.#endOrLeave(task, work);
      },
    };
  }

  /** Ends what an earlier run left of an instance. Nothing to do costs nothing. @throws what stands in the way */
  async settle(key: InstanceKey, signal: AbortSignal): Promise<void> {
    if (!this.#left.has(key)) return;
    for (const task of this.#open(key)) await this.#check(task, false, signal);
    const [left] = this.#open(key);
    if (left) throw unfinishedTask(left);
    this.#left.delete(key);
  }

  /** The first thing of a recovery: whatever stands still is let go, since all else could wait for it. */
  async thawAll(): Promise<void> {
    for (const task of this.#open())
      if ('frozen' in task) for (const path of task.frozen) await this.#deps.freezer.thaw(path);
  }

  /** Ends every task that is nobody's. Called in the order of instances, by `inOrder`. */
  async recover(
    dryRun: boolean,
    signal: AbortSignal,
    inOrder: <T>(key: InstanceKey, work: () => Promise<T>) => Promise<T>,
  ): Promise<readonly TaskRecovery[]> {
    const found: TaskRecovery[] = [];
    for (const { id, instance } of this.#open()) {
      const one = await inOrder(instance, async () => {
        const task = this.#open(instance).find(t => t.id === id);
        return task && (await this.#check(task, dryRun, signal));
      });
      if (one) found.push(one);
    }
    return found;
  }

  /**
   * Detaches on the host what is mounted, puts the snapshot in the image's place, and mounts it again. Each part may be done twice; once
   * the image is replaced only the rest is done.
   */
  async restore(task: RestoreTask, attachment: Attachment, signal: AbortSignal): Promise<void> {
    const { journal, saved } = this.#deps;
    const { plan } = attachment;
    journal.noteTask(task, {});
    // After a power cut the image must not be the new one without a word of why.
    await journal.flushed();
    const mounted = isAttached(attachment);
    let { replaced } = task;
    try {
      if (!replaced) {
        if (mounted) await unwind(plan, [this.#steps.device, this.#steps.mount], { lazy: false, signal });
        await saved.restore(plan.id, task.name, plan.image.path);
        replaced = true;
        journal.noteTask({ ...task, replaced }, {});
      }
      if (mounted) await mountAgain(this.#deps, this.#steps, plan, signal);
      journal.endTask(task.id, {});
    } catch (error) {
      if (replaced) this.#left.add(task.instance);
      // In use after all, or no room: what it was is mounted again, and nothing has changed.
      else
        await this.#endOrLeave(task, async () => {
          await saved.discardRestore(plan.id, plan.image.path);
          if (mounted) await mountAgain(this.#deps, this.#steps, plan, AbortSignal.timeout(UNDO_MS));
        });
      throw error;
    }
  }

  #open(instance?: InstanceKey): readonly Task[] {
    return this.#deps.journal.tasks(instance).filter(task => !this.#live.has(task.id));
  }

  async #endOrLeave(task: Task, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
      this.#deps.journal.endTask(task.id, {});
    } catch {
      // The first error is the one to be told; the task stays in the journal, and recover tells what stands in its way.
      this.#left.add(task.instance);
    }
  }

  async #check(task: Task, dryRun: boolean, signal: AbortSignal): Promise<TaskRecovery> {
    const facts = {
      task: task.kind,
      instance: task.instance,
      ...('attachment' in task && { attachment: task.attachment }),
    };
    try {
      return { ...facts, did: dryRun ? this.#intention(task) : await this.#recoverTask(task, signal) };
    } catch (error) {
      return { ...facts, did: 'left', error: report(error) };
    }
  }

  #intention(task: Task): 'finished' | 'undone' {
    switch (task.kind) {
      case 'extend':
      case 'restore':
        return 'finished';
      case 'snapshot':
        return this.#deps.saved.find(task.attachment, task.name) ? 'finished' : 'undone';
      case 'swap':
        return isSwapped(this.#deps, task) ? 'finished' : 'undone';
      case 'freeze':
        return 'undone';
      default:
        return task satisfies never;
    }
  }

  async #recoverTask(task: Task, signal: AbortSignal): Promise<'finished' | 'undone'> {
    const { journal, saved, freezer } = this.#deps;
    const did = this.#intention(task);
    if ('frozen' in task) for (const path of task.frozen) await freezer.thaw(path);
    const attachment = 'attachment' in task ? journal.find(task.attachment) : undefined;
    switch (task.kind) {
      case 'snapshot':
        await saved.discard(task.attachment, task.name);
        break;
      case 'extend':
        if (attachment && isAttached(attachment)) await this.#extendOnce(task, attachment, signal);
        break;
      case 'restore':
        if (attachment) return await this.#goOnRestoring(task, attachment, signal);
        break;
      case 'swap':
        await endSwap(this.#deps, this.#steps, task, signal);
        break;
      case 'freeze':
        break;
      default:
        return task satisfies never;
    }
    journal.endTask(task.id, {});
    return did;
  }

  /** Begun when the instance stood: if it runs again with the image, nothing had happened yet, and nothing is to happen any more. */
  async #goOnRestoring(task: RestoreTask, attachment: Attachment, signal: AbortSignal): Promise<'finished' | 'undone'> {
    const { plan } = attachment;
    if (!task.replaced && isAttached(attachment)) {
      const { instance } = await resolve(this.#deps, plan.ref, signal);
      if (instance?.running) {
        await this.#deps.saved.discardRestore(plan.id, plan.image.path);
        this.#deps.journal.endTask(task.id, {});
        return 'undone';
      }
    }
    await this.restore(task, attachment, signal);
    return 'finished';
  }

  /** What cannot be grown now is told once, and keeps nothing else from being done: it is as good as it was. */
  async #extendOnce(
    task: Extract<Task, { kind: 'extend' }>,
    attachment: Parameters<typeof extendNow>[2],
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await extendNow(this.#deps, this.#steps, attachment, task.sizeBytes, signal);
    } catch (error) {
      await this.#deps.saved.discardRestore(task.attachment, attachment.plan.image.path);
      this.#deps.journal.endTask(task.id, {});
      throw error;
    }
  }
}

const UNDO_MS = 30_000;

function unfinishedTask({ kind, instance }: Task): ShiftvolError {
  return new ShiftvolError('SV_BUSY', `Cannot change "${instance}": an earlier ${kind} is not finished`, {
    remedy: 'run "shiftvol recover", which finishes it or says what stands in the way',
  });
}
