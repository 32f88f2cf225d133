/** What each command does. */
import { ShiftvolError } from '../errors.ts';
import { build, releasedWith } from './attach.ts';
import type { EngineDeps } from './deps.ts';
import { type Taken, takeAway } from './detach.ts';
import type { EventMaker } from './events.ts';
import { extend, findToExtend } from './extend.ts';
import {
  type AttachCommand,
  type Attachment,
  type Command,
  type DestroyCommand,
  type DetachCommand,
  type ExtendCommand,
  isSettled,
  type Plan,
  type RemovalGoal,
  rootSource,
  type SpawnCommand,
  type StepTiming,
} from './model.ts';
import { mapOfAllocation, planSpawn } from './plan.ts';
import type { Allocation, Also } from './ports.ts';
import { findToDestroy, findToDetach, prepareAttach, prepareSpawn, type Settle } from './prepare.ts';
import { recoverOne } from './recover.ts';
import { instanceThere, rootInUse, unfinished } from './refuse.ts';
import { mountIfGone } from './remount.ts';
import type { Requests } from './requests.ts';
import type { Resolved } from './resolve.ts';
import type { Standstills } from './standstills.ts';
import type { Steps } from './steps.ts';
import type { Tasks } from './tasks.ts';

export type Ended = {
  readonly changed: boolean;
  readonly attachments: readonly Attachment[];
  readonly steps: readonly StepTiming[];
};
/** One command on its way: what all of its parts need to know. */
export type Run = { readonly resolved: Resolved; readonly events: EventMaker; readonly signal: AbortSignal };

type Parts = {
  readonly steps: Steps;
  readonly tasks: Tasks;
  readonly requests: Requests;
  readonly standstills: Standstills;
};

export class Commands {
  readonly #deps: EngineDeps;
  readonly #steps: Steps;
  readonly #tasks: Tasks;
  readonly #requests: Requests;
  readonly #standstills: Standstills;

  constructor(deps: EngineDeps, { steps, tasks, requests, standstills }: Parts) {
    this.#deps = deps;
    this.#steps = steps;
    this.#tasks = tasks;
    this.#requests = requests;
    this.#standstills = standstills;
  }

  /** Called in the order of its instance. */
  async do(command: Command, run: Run): Promise<Ended> {
    await this.#tasks.settle(run.resolved.key, run.signal);
    if (command.action !== 'attach' && command.action !== 'spawn') this.#standstills.requireMoving(run.resolved.key);
    switch (command.action) {
      case 'attach':
        return await this.#attach(command, run);
      case 'spawn':
        return await this.#spawn(command, run);
      case 'detach':
        return await this.#detach(command, run);
      case 'destroy':
        return await this.#destroy(command, run);
      case 'extend':
        return await this.#extend(command, run);
      default:
        return command satisfies never;
    }
  }

  async #attach(command: AttachCommand, run: Run): Promise<Ended> {
    const settle: Settle = attachment => this.settle(attachment, run.signal);
    const prepared = await prepareAttach(this.#deps, command, run.resolved, settle);
    if (!('plan' in prepared)) return await this.#stillThere(command, run, prepared.existing);
    const { plan } = prepared;
    this.#deps.journal.begin(plan, { ...this.#requests.open(command), events: [run.events.start(plan.id)] });
    return await this.#build(command, run, prepared);
  }

  async #spawn(command: SpawnCommand, run: Run): Promise<Ended> {
    const settle: Settle = attachment => this.settle(attachment, run.signal);
    if (command.anew === true) await this.#removeRoot(command, run);
    const prepared = await prepareSpawn(this.#deps, command, run.resolved, settle);
    if (!('context' in prepared)) return await this.#stillThere(command, run, prepared.existing);
    const { context } = prepared;
    const { key, instance } = run.resolved;
    let plan: Plan | undefined;
    const begin = (map: Plan['instanceMap'], also: Also) => {
      plan = planSpawn(command, key, map, context);
      this.#deps.journal.begin(plan, { ...this.#requests.open(command), events: [run.events.start(plan.id)], ...also });
    };
    // A map that the runtime has given the instance already is the one; else a range of its own, reserved with the intent.
    if (instance) begin(instance.idmap, {});
    else {
      const fresh = (allocate: Allocation) => begin(mapOfAllocation(allocate), { allocate });
      const mine = await this.#deps.allocator.allocate(key, { signal: run.signal }, fresh).catch((error: unknown) => {
        // Nothing has been done yet but the intent.
        if (plan) this.#deps.journal.remove(plan.id, {});
        throw error;
      });
      if (!plan) begin(mapOfAllocation(mine), {});
    }
    if (!plan) throw new ShiftvolError('SV_INTERNAL', `Cannot spawn "${key}": no plan was made`);
    const { template } = context;
    const { secrets } = command;
    return await this.#build(command, run, { plan, ...(template && { template }), ...(secrets && { secrets }) });
  }

  /** Not before it is sure that there is something to take its place. */
  async #removeRoot(command: SpawnCommand, run: Run): Promise<void> {
    const { key, instance } = run.resolved;
    const root = this.#deps.journal.list(key).find(a => a.plan.role === 'root');
    if (!root) return;
    const source = rootSource(command);
    if (source.kind === 'template') await this.#deps.backend.getTemplate(source.template);
    // Also one that stands: whoever stopped it may want it as it is. A rebuild removes the container first.
    if (instance) throw instanceThere(key);
    const settled = await this.settle(root, run.signal);
    // The ids stay: the container has them.
    if (settled) await this.#takeAway(settled, 'destroy', false, run, () => ({}));
  }

  async #build(command: Command, run: Run, reserved: Parameters<typeof build>[2]): Promise<Ended> {
    const { id } = reserved.plan;
    const { timings } = await build(
      this.#deps,
      this.#steps,
      reserved,
      end =>
        'error' in end
          ? {
              ...this.#requests.failed(command, run.events, end.error, id),
              ...releasedWith(this.#deps.journal, reserved.plan),
            }
          : { events: [run.events.end(id, end.timings)], ...this.#requests.done(command, run.events, end.timings, id) },
      run.signal,
    );
    // Its way to the disk begins here, not when the answer has been put together.
    if (isCountedOn(command)) this.#deps.journal.flushed();
    return { changed: true, attachments: this.#found(id), steps: timings };
  }

  async #detach(command: DetachCommand, run: Run): Promise<Ended> {
    const [found, ...more] = findToDetach(this.#deps, command, run.resolved.key);
    if (command.all === true) return await this.#detachAll(command, run, found ? [found, ...more] : []);
    const attachment = await this.settle(found, run.signal);
    if (attachment?.status.state !== 'attached') return this.#unchanged(command, run, attachment);
    const { id } = attachment.plan;
    this.#deps.journal.record({ ...this.#requests.open(command), events: [run.events.start(id)] });
    const { timings } = await this.#takeAway(attachment, 'detach', command.lazy, run, taken => ({
      events: [run.events.end(id, taken.timings)],
      ...this.#requests.done(command, run.events, taken.timings, id),
    }));
    return { changed: true, attachments: this.#found(id), steps: timings };
  }

  /** What is busy keeps the rest of them; asked again, it goes on with what is left. */
  async #detachAll(command: DetachCommand, run: Run, mine: readonly Attachment[]): Promise<Ended> {
    this.#deps.journal.record({ ...this.#requests.open(command), events: [run.events.start()] });
    const steps: StepTiming[] = [];
    for (const one of mine) {
      const settled = await this.settle(one, run.signal);
      if (settled?.status.state !== 'attached') continue;
      steps.push(...(await this.#takeAway(settled, 'detach', command.lazy, run, () => ({}))).timings);
    }
    this.#deps.journal.record({
      events: [run.events.end(undefined, steps)],
      ...this.#requests.done(command, run.events, steps),
    });
    return { changed: true, attachments: mine.flatMap(({ plan }) => this.#found(plan.id)), steps };
  }

  async #destroy(command: DestroyCommand, run: Run): Promise<Ended> {
    const { key, instance } = run.resolved;
    const mine = findToDestroy(this.#deps, command, key);
    if (instance?.running && !command.lazy && mine.some(a => a.plan.role === 'root')) throw rootInUse(key);
    this.#deps.journal.record({ ...this.#requests.open(command), events: [run.events.start()] });
    const goal = command.target === undefined ? 'destroy instance' : 'destroy';
    const steps: StepTiming[] = [];
    for (const one of mine) {
      const settled = await this.settle(one, run.signal);
      if (settled) steps.push(...(await this.#takeAway(settled, goal, command.lazy, run, () => ({}))).timings);
    }
    const { journal } = this.#deps;
    const left = journal.list(key);
    // Ids that were reserved and never used go back too.
    const isUnused = command.target === undefined && left.length === 0 && journal.allocation(key) !== undefined;
    journal.record({
      ...(isUnused && { release: key }),
      events: [run.events.end(undefined, steps)],
      ...this.#requests.done(command, run.events, steps),
    });
    return { changed: true, attachments: left.filter(a => mine.some(m => m.plan.id === a.plan.id)), steps };
  }

  async #extend(command: ExtendCommand, run: Run): Promise<Ended> {
    const found = findToExtend(this.#deps, command, run.resolved.key);
    const { id } = found.plan;
    const { changed, timings } = await extend(
      this.#deps,
      this.#steps,
      found,
      command.sizeBytes,
      () => ({ ...this.#requests.open(command), events: [run.events.start(id)] }),
      end => ({
        events: [run.events.end(id, end.timings)],
        ...this.#requests.done(command, run.events, end.timings, id),
      }),
      run.signal,
    );
    return { changed, attachments: this.#found(id), steps: timings };
  }

  async #takeAway(
    attachment: Attachment,
    goal: RemovalGoal,
    lazy: boolean,
    { resolved: { instance }, signal }: Run,
    closing: (taken: Taken) => Also,
  ): Promise<Taken> {
    return await takeAway(this.#deps, this.#steps, attachment, { goal, lazy, instance, signal }, closing);
  }

  /** What an earlier run left half way is ended first. @throws SV_BUSY: it cannot be */
  async settle(attachment: Attachment | undefined, signal: AbortSignal): Promise<Attachment | undefined> {
    if (!attachment || isSettled(attachment)) return attachment;
    try {
      await recoverOne(this.#deps, this.#steps, attachment, signal);
    } catch (cause) {
      throw unfinished(attachment, cause);
    }
    return this.#deps.journal.find(attachment.plan.id);
  }

  #found(id: Plan['id']): readonly Attachment[] {
    const attachment = this.#deps.journal.find(id);
    return attachment ? [attachment] : [];
  }

  async #stillThere(command: AttachCommand | SpawnCommand, run: Run, existing: Attachment): Promise<Ended> {
    const source = command.action === 'spawn' ? rootSource(command) : command.source;
    const { secrets } = command;
    await mountIfGone(this.#deps, this.#steps, existing, { source, ...(secrets && { secrets }) }, run.signal);
    return this.#unchanged(command, run, this.#deps.journal.find(existing.plan.id));
  }

  #unchanged(command: Command, run: Run, attachment: Attachment | undefined): Ended {
    const id = attachment?.plan.id;
    // Whoever asked under a request id of his own waits for its end.
    this.#deps.journal.record({
      events: [run.events.end(id, [])],
      ...this.#requests.done(command, run.events, [], id),
    });
    return { changed: false, attachments: attachment ? [attachment] : [], steps: [] };
  }
}

/**
 * Whether the outcome has to be on the disk before it is told. Without a request id that is not so for a removal: its goal is there
 * already, and `recover` ends it after a power cut; nobody could ask for its answer again.
 */
export function isCountedOn({ action, requestId }: Command): boolean {
  return requestId !== undefined || action === 'attach' || action === 'spawn';
}
