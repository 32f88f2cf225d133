import { asError, ShiftvolError } from '../errors.ts';
import { type Adoption, adopt } from './adopt.ts';
import { build, releasedWith } from './attach.ts';
import { commandChannel } from './channels.ts';
import type { EngineDeps } from './deps.ts';
import { type Taken, takeAway } from './detach.ts';
import { EventMaker } from './events.ts';
import { extend, findToExtend } from './extend.ts';
import {
  type AttachCommand,
  type Attachment,
  type AttachmentId,
  type AttachVolumeCommand,
  type Command,
  type DestroyCommand,
  type DetachCommand,
  type ExtendCommand,
  type InstanceKey,
  type InstanceRef,
  isSettled,
  type Outcome,
  type Plan,
  type RemovalGoal,
  rootSource,
  type SpawnCommand,
  type StepTiming,
} from './model.ts';
import { type Move, noteMove } from './moved.ts';
import { mapOfAllocation, planSpawn } from './plan.ts';
import type { Allocation, Also, UsedRange } from './ports.ts';
import { findToDestroy, findToDetach, prepareAttach, prepareSpawn, type Settle } from './prepare.ts';
import { type Preview, preview } from './preview.ts';
import { type InOrder, KeyedQueue } from './queue.ts';
import { RecentRuns } from './recent-runs.ts';
import { type Recovered, recover, recoverOne } from './recover.ts';
import { attachmentNotFound, idsInUse, instanceThere, rootInUse, unfinished } from './refuse.ts';
import { mountIfGone } from './remount.ts';
import { Requests } from './requests.ts';
import { type Resolved, resolve } from './resolve.ts';
import { Snapshots } from './snapshots.ts';
import { Standstills } from './standstills.ts';
import { makeSteps, type Steps } from './steps.ts';
import { type SwapRequest, swap } from './swap.ts';
import { Tasks } from './tasks.ts';
import type { VolumeService } from './volume-ports.ts';

type Ended = {
  readonly changed: boolean;
  readonly attachments: readonly Attachment[];
  readonly steps: readonly StepTiming[];
};
/** One command on its way: what all of its parts need to know. */
type Run = { readonly resolved: Resolved; readonly events: EventMaker; readonly signal: AbortSignal };

/**
 * Does what commands ask, each once: in order for one instance, in parallel for different ones. Every change is a saga; after a
 * crash `recover` ends what was begun.
 */
export class Engine {
  readonly #deps: EngineDeps;
  readonly #steps: Steps;
  /** Keeps commands that name an instance alike in their order while its name is looked up. */
  readonly #arrivals = new KeyedQueue(Number.POSITIVE_INFINITY);
  readonly #instances: KeyedQueue;
  readonly #requests: Requests;
  readonly #tasks: Tasks;
  /** Saved copies of what is attached. */
  readonly snapshots: Snapshots;
  /** Freezing what is attached, for a copy that somebody else takes. */
  readonly standstills: Standstills;
  /** What the last recover came to, whoever asked for it. `at`: milliseconds since 1970. */
  lastRecovery: (Recovered & { readonly at: number }) | undefined;
  /** For those who watch; costs nothing until somebody asks. */
  readonly runs = new RecentRuns();

  constructor(deps: EngineDeps) {
    this.#deps = deps;
    this.#steps = makeSteps(deps);
    this.#instances = new KeyedQueue(deps.parallel);
    this.#requests = new Requests(deps.journal);
    this.#tasks = new Tasks(deps, this.#steps);
    const inOrder: InOrder = (key, work) => this.#instances.run(key, work);
    this.standstills = new Standstills(deps, this.#tasks, inOrder);
    this.snapshots = new Snapshots(deps, this.#tasks, this.standstills, inOrder);
  }

  /**
   * Does one command. A request id that was seen before gives the answer of that time (`changed` false), or its error.
   * `tells`: whether a failure is told as an event, where nothing had begun; what has begun is always told the end of.
   * @throws ShiftvolError; the host is as it was then, or the code is SV_UNDO
   */
  async execute(
    command: Command,
    signal: AbortSignal,
    tells: (error: ShiftvolError) => boolean = () => true,
  ): Promise<Outcome> {
    const work = () => this.#execute(command, signal, tells);
    if (!commandChannel.hasSubscribers) return await work();
    return await commandChannel.tracePromise(work, { command, host: this.#deps.host });
  }

  async #execute(command: Command, signal: AbortSignal, tells: (error: ShiftvolError) => boolean): Promise<Outcome> {
    const { ref, project } = command.instance;
    return await this.#arrivals.run(`${project ?? ''}/${ref}`, async () => {
      const answered = this.#requests.answered(command);
      if (answered) return answered;
      const started = performance.now();
      let events = new EventMaker(command, ref, this.#deps.host, started);
      try {
        const resolved = await resolve(this.#deps, command.instance, signal);
        events = new EventMaker(command, resolved.key, this.#deps.host, started);
        const ended = await this.#instances.run(resolved.key, () => this.#do(command, { resolved, events, signal }));
        return { action: command.action, ...ended, durationMs: events.elapsedMs() };
      } catch (thrown) {
        const error = asError(thrown);
        this.#requests.refused(command, events, error, events.begun || tells(error));
        throw thrown;
      } finally {
        if (isCountedOn(command)) await this.#deps.journal.flushed();
      }
    });
  }

  /** What `execute` would do: the objects of its calls. Nothing is changed, and no id is reserved. */
  async preview(command: Command, signal: AbortSignal): Promise<Preview> {
    return await preview(this.#deps, command, signal);
  }

  /** A volume that its service exports to this host first. @throws SV_HOST: this host knows no such service; as `execute` */
  async attachVolume(command: AttachVolumeCommand, signal: AbortSignal): Promise<Outcome> {
    return await this.#volumes.attach(command, this, signal);
  }

  async previewVolume(command: AttachVolumeCommand, signal: AbortSignal): Promise<Preview> {
    return await this.#volumes.preview(command, this, signal);
  }

  /**
   * An image that came from another host becomes this instance's: not mounted yet, as if it had been detached. Mapped it will be by its
   * next attach or spawn, to what the instance owns here.
   * @throws SV_INSTANCE_NOT_FOUND: a volume, and no such instance; SV_TARGET_TAKEN; SV_TEMPLATE_NOT_FOUND
   */
  async adopt(adoption: Adoption, signal: AbortSignal): Promise<Attachment> {
    const resolved = await resolve(this.#deps, adoption.instance, signal);
    return await this.#instances.run(resolved.key, async () => {
      await this.#tasks.settle(resolved.key, signal);
      return await adopt(this.#deps, adoption, resolved, attachment => this.#settle(attachment, signal), signal);
    });
  }

  /**
   * Another volume takes the place of one, with all that is on it. The old one is let go of; where it fails, the new one.
   * @throws SV_ATTACHMENT_NOT_FOUND; SV_BUSY, SV_TIMEOUT: an instance that runs cannot spare it, or not for so long; SV_RUNTIME_UNSUPPORTED: not
   *   for a volume of this kind; SV_IMAGE_REFUSED: the new one is smaller, or not blank; what connecting and mounting throw
   */
  async swapVolume(request: SwapRequest, signal: AbortSignal): Promise<Attachment> {
    const { key } = await resolve(this.#deps, request.instance, signal);
    return await this.#instances.run(key, async () => {
      await this.#tasks.settle(key, signal);
      this.standstills.requireMoving(key);
      const resolved = await resolve(this.#deps, request.instance, signal);
      return await swap(this.#deps, this.#steps, this.#tasks, request, resolved, signal);
    });
  }

  /** Its instance came from another host, and runs here. @throws SV_ATTACHMENT_NOT_FOUND: its root is not attached here */
  async noteMove(move: Move, signal: AbortSignal): Promise<void> {
    const { key } = await resolve(this.#deps, move.instance, signal);
    await this.#instances.run(key, () => noteMove(this.#deps, key, move));
  }

  list(instance?: InstanceKey): readonly Attachment[] {
    return this.#deps.journal.list(instance);
  }

  /** By attachment id, by instance, or by `INSTANCE:TARGET`. @throws SV_ATTACHMENT_NOT_FOUND */
  async show(ref: InstanceRef, target: string | undefined, signal: AbortSignal): Promise<readonly Attachment[]> {
    const byId = this.#found(ref.ref as AttachmentId);
    if (byId.length > 0) return byId;
    const { key } = await resolve(this.#deps, ref, signal);
    const found = this.#deps.journal.list(key).filter(a => target === undefined || a.plan.target === target);
    if (found.length === 0) throw attachmentNotFound(`"${ref.ref}${target === undefined ? '' : `:${target}`}"`);
    return found;
  }

  /** Ends what a crash left open, and says what it did. With `dryRun` what it would do. */
  async recover(options: { dryRun: boolean; signal: AbortSignal }): Promise<Recovered> {
    const inOrder = <T>(key: InstanceKey, work: () => Promise<T>) => this.#instances.run(key, work);
    const found = await recover(this.#deps, this.#steps, this.#tasks, options, inOrder);
    if (!options.dryRun) this.lastRecovery = { ...found, at: Date.now() };
    await this.#deps.journal.flushed();
    return found;
  }

  /** Reserves ids for an instance, or says which it would be. @throws SV_RANGE_EXHAUSTED, SV_RANGE_TAKEN */
  async reserveIds(
    ref: InstanceRef,
    options: { count?: number; start?: number },
    dryRun: boolean,
    signal: AbortSignal,
  ): Promise<Pick<Allocation, 'instance' | 'uid' | 'gid'> & { readonly dryRun: boolean }> {
    const { key } = await resolve(this.#deps, ref, signal);
    const { allocator, journal } = this.#deps;
    const { uid, gid } = dryRun
      ? await allocator.preview(key, { ...options, signal })
      : await allocator.allocate(key, { ...options, signal }, allocate => journal.record({ allocate }));
    await journal.flushed();
    return { instance: key, uid, gid, dryRun };
  }

  /** Gives an instance's ids back. None is success. @throws SV_BUSY: attachments of the instance use the ids */
  async releaseIds(
    ref: InstanceRef,
    dryRun: boolean,
    signal: AbortSignal,
  ): Promise<{ instance: InstanceKey; released: boolean; dryRun: boolean }> {
    const { key } = await resolve(this.#deps, ref, signal);
    const used = this.#deps.journal.list(key)[0];
    if (used) throw idsInUse(used);
    const released = this.#deps.journal.allocation(key) !== undefined;
    if (released && !dryRun) this.#deps.journal.record({ release: key });
    await this.#deps.journal.flushed();
    return { instance: key, released, dryRun };
  }

  /** Everybody's host ids, as far as this host tells. */
  async usedIds(signal: AbortSignal): Promise<readonly UsedRange[]> {
    return await this.#deps.allocator.used(signal);
  }

  get #volumes(): VolumeService {
    if (this.#deps.volumes) return this.#deps.volumes;
    throw new ShiftvolError('SV_HOST', 'Cannot ask for volumes by name: no volume service is set up on this host');
  }

  async #do(command: Command, run: Run): Promise<Ended> {
    await this.#tasks.settle(run.resolved.key, run.signal);
    if (command.action !== 'attach' && command.action !== 'spawn') this.standstills.requireMoving(run.resolved.key);
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
    const settle: Settle = attachment => this.#settle(attachment, run.signal);
    const prepared = await prepareAttach(this.#deps, command, run.resolved, settle);
    if (!('plan' in prepared)) return await this.#stillThere(command, run, prepared.existing);
    const { plan } = prepared;
    this.#deps.journal.begin(plan, { ...this.#requests.open(command), events: [run.events.start(plan.id)] });
    return await this.#build(command, run, prepared);
  }

  async #spawn(command: SpawnCommand, run: Run): Promise<Ended> {
    const settle: Settle = attachment => this.#settle(attachment, run.signal);
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
    const settled = await this.#settle(root, run.signal);
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
    const attachment = await this.#settle(found, run.signal);
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
      const settled = await this.#settle(one, run.signal);
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
      const settled = await this.#settle(one, run.signal);
      if (settled) steps.push(...(await this.#takeAway(settled, goal, command.lazy, run, () => ({}))).timings);
    }
    // Ids that were reserved and never used go back too.
    const unused = command.target === undefined && this.#deps.journal.list(key).length === 0;
    this.#deps.journal.record({
      ...(unused && { release: key }),
      events: [run.events.end(undefined, steps)],
      ...this.#requests.done(command, run.events, steps),
    });
    return {
      changed: true,
      attachments: this.#deps.journal.list(key).filter(a => mine.some(m => m.plan.id === a.plan.id)),
      steps,
    };
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
  async #settle(attachment: Attachment | undefined, signal: AbortSignal): Promise<Attachment | undefined> {
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
function isCountedOn({ action, requestId }: Command): boolean {
  return requestId !== undefined || action === 'attach' || action === 'spawn';
}
