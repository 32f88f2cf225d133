import { asError, ShiftvolError } from '../errors.ts';
import { build } from './attach.ts';
import type { EngineDeps } from './deps.ts';
import { removeKept, type Taken, takeAway } from './detach.ts';
import { EventMaker } from './events.ts';
import type {
  AttachCommand,
  Attachment,
  Command,
  DestroyCommand,
  DetachCommand,
  InstanceKey,
  InstanceRef,
  Outcome,
  Plan,
  SpawnCommand,
  StepTiming,
} from './model.ts';
import { attachmentId, mapOfAllocation, type PlanContext, planAttach, planSpawn } from './plan.ts';
import type { Allocation, Also, Template, UsedRange } from './ports.ts';
import { type Preview, previewBuild, previewRemoval } from './preview.ts';
import { KeyedQueue } from './queue.ts';
import { type Recovered, recover, recoverOne } from './recover.ts';
import { attachmentNotFound, idsInUse, instanceNotFound, targetTaken, unfinished, volumeInUse } from './refuse.ts';
import { Requests } from './requests.ts';
import { type Resolved, resolve } from './resolve.ts';
import { makeSteps, type Reserved, type Steps } from './steps.ts';
import { requireTarget } from './target.ts';

type Ended = {
  readonly changed: boolean;
  readonly attachments: readonly Attachment[];
  readonly steps: readonly StepTiming[];
};
type SpawnContext = { readonly template: Template; readonly context: PlanContext };
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

  constructor(deps: EngineDeps) {
    this.#deps = deps;
    this.#steps = makeSteps(deps);
    this.#instances = new KeyedQueue(deps.parallel);
    this.#requests = new Requests(deps.journal);
  }

  /**
   * Does one command. A request id that was seen before gives the answer of that time (`changed` false), or its error.
   * @throws ShiftvolError; the host is as it was then, or the code is SV_UNDO
   */
  async execute(command: Command, signal: AbortSignal): Promise<Outcome> {
    const { ref, project } = command.instance;
    return await this.#arrivals.run(`${project ?? ''}/${ref}`, async () => {
      const answered = this.#requests.answered(command);
      if (answered) return answered;
      let events = new EventMaker(command, ref, this.#deps.host);
      try {
        const resolved = await resolve(this.#deps, command.instance, signal);
        events = new EventMaker(command, resolved.key, this.#deps.host);
        const ended = await this.#instances.run(resolved.key, () => this.#do(command, { resolved, events, signal }));
        return { action: command.action, ...ended, durationMs: events.elapsedMs() };
      } catch (thrown) {
        this.#requests.refused(command, events, asError(thrown));
        throw thrown;
      }
    });
  }

  /** What `execute` would do: the objects of its calls. Nothing is changed, and no id is reserved. */
  async preview(command: Command, signal: AbortSignal): Promise<Preview> {
    const resolved = await resolve(this.#deps, command.instance, signal);
    const run: Run = { resolved, signal, events: new EventMaker(command, resolved.key, this.#deps.host) };
    const unchanged: Preview = { dryRun: true, action: command.action, changed: false, steps: [] };
    switch (command.action) {
      case 'attach': {
        const prepared = await this.#prepareAttach(command, run);
        return 'plan' in prepared ? previewBuild('attach', prepared.plan, prepared.template?.path) : unchanged;
      }
      case 'spawn': {
        const prepared = await this.#prepareSpawn(command, run);
        if (!('template' in prepared)) return unchanged;
        const map =
          resolved.instance?.idmap ?? mapOfAllocation(await this.#deps.allocator.preview(resolved.key, { signal }));
        return previewBuild(
          'spawn',
          planSpawn(command, resolved.key, map, prepared.template, prepared.context),
          prepared.template.path,
        );
      }
      case 'detach':
        return previewRemoval('detach', [this.#toDetach(command, run)], command.lazy);
      case 'destroy':
        return previewRemoval('destroy', this.#toDestroy(command, run), command.lazy);
      default:
        return command satisfies never;
    }
  }

  list(instance?: InstanceKey): readonly Attachment[] {
    return this.#deps.journal.list(instance);
  }

  /** By attachment id, by instance, or by `INSTANCE:TARGET`. @throws SV_ATTACHMENT_NOT_FOUND */
  async show(ref: InstanceRef, target: string | undefined, signal: AbortSignal): Promise<readonly Attachment[]> {
    const byId = this.#deps.journal.list().filter(a => a.plan.id === ref.ref);
    if (byId.length > 0) return byId;
    const { key } = await resolve(this.#deps, ref, signal);
    const found = this.#deps.journal.list(key).filter(a => target === undefined || a.plan.target === target);
    if (found.length === 0) throw attachmentNotFound(`"${ref.ref}${target === undefined ? '' : `:${target}`}"`);
    return found;
  }

  /** Ends what a crash left open, and says what it did. With `dryRun` what it would do. */
  async recover(options: { dryRun: boolean; signal: AbortSignal }): Promise<Recovered> {
    return await recover(this.#deps, this.#steps, options, (key, work) => this.#instances.run(key, work));
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
    return { instance: key, released, dryRun };
  }

  /** Everybody's host ids, as far as this host tells. */
  async usedIds(signal: AbortSignal): Promise<readonly UsedRange[]> {
    return await this.#deps.allocator.used(signal);
  }

  async #do(command: Command, run: Run): Promise<Ended> {
    switch (command.action) {
      case 'attach':
        return await this.#attach(command, run);
      case 'spawn':
        return await this.#spawn(command, run);
      case 'detach':
        return await this.#detach(command, run);
      case 'destroy':
        return await this.#destroy(command, run);
      default:
        return command satisfies never;
    }
  }

  async #attach(command: AttachCommand, run: Run): Promise<Ended> {
    const prepared = await this.#prepareAttach(command, run);
    if (!('plan' in prepared)) return this.#unchanged(command, run, prepared.existing);
    const { plan } = prepared;
    this.#deps.journal.begin(plan, { ...this.#requests.open(command), events: [run.events.start(plan.id)] });
    return await this.#build(command, run, prepared);
  }

  async #prepareAttach(command: AttachCommand, run: Run): Promise<Reserved | { existing: Attachment }> {
    const target = requireTarget(command.target);
    const { instance } = run.resolved;
    if (!instance) throw instanceNotFound(command.instance, this.#deps.host);
    const existing = await this.#settled(this.#deps.journal.find(attachmentId(instance.key, target)), run.signal);
    if (existing && !sameRequest(existing.plan, command)) throw targetTaken(existing);
    if (existing?.status.state === 'attached') return { existing };
    const template = await this.#template(command.source.kind === 'template' ? command.source.template : undefined);
    const plan = planAttach(command, target, instance, this.#context(existing, template));
    const [holder] = this.#deps.journal.withImage(plan.image.path).filter(a => a.plan.id !== plan.id);
    if (holder) throw volumeInUse(plan, holder);
    return { plan, instance, ...(template && { template }) };
  }

  async #spawn(command: SpawnCommand, run: Run): Promise<Ended> {
    const prepared = await this.#prepareSpawn(command, run);
    if (!('template' in prepared)) return this.#unchanged(command, run, prepared.existing);
    const { template, context } = prepared;
    const { key, instance } = run.resolved;
    let plan: Plan | undefined;
    const begin = (map: Plan['instanceMap'], also: Also) => {
      plan = planSpawn(command, key, map, template, context);
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
    return await this.#build(command, run, { plan, template });
  }

  async #prepareSpawn(command: SpawnCommand, run: Run): Promise<SpawnContext | { existing: Attachment }> {
    const existing = await this.#settled(this.#deps.journal.find(attachmentId(run.resolved.key, '/')), run.signal);
    const { source } = existing?.plan ?? {};
    if (existing && !(source?.kind === 'template' && source.template === command.template)) throw targetTaken(existing);
    if (existing?.status.state === 'attached') return { existing };
    const template = await this.#template(command.template);
    return { template, context: this.#context(existing, template) };
  }

  #context(existing: Attachment | undefined, template: Template | undefined): PlanContext {
    return {
      runDir: this.#deps.runDir,
      backend: this.#deps.backend,
      ...(template && { template }),
      ...(existing && { existing }),
    };
  }

  async #build(command: Command, run: Run, reserved: Parameters<typeof build>[2]): Promise<Ended> {
    const { id } = reserved.plan;
    const { timings } = await build(
      this.#deps,
      this.#steps,
      reserved,
      end =>
        'error' in end
          ? { ...this.#requests.failed(command, run.events, end.error, id), ...this.#releaseOf(reserved.plan) }
          : { events: [run.events.end(id, end.timings)], ...this.#requests.done(command, run.events, end.timings, id) },
      run.signal,
    );
    return { changed: true, attachments: this.#found(id), steps: timings };
  }

  /** A spawn that failed gives its ids back, unless something else of the instance uses them. */
  #releaseOf(plan: Plan): Also {
    const others = this.#deps.journal.list(plan.instance).some(a => a.plan.id !== plan.id);
    return plan.role === 'root' && !others && !plan.snapshotKept ? { release: plan.instance } : {};
  }

  async #detach(command: DetachCommand, run: Run): Promise<Ended> {
    const attachment = await this.#settled(this.#toDetach(command, run), run.signal);
    if (attachment?.status.state !== 'attached') return this.#unchanged(command, run, attachment);
    const { id } = attachment.plan;
    this.#deps.journal.record({ ...this.#requests.open(command), events: [run.events.start(id)] });
    const { timings } = await this.#takeAway(command, run, attachment, taken => ({
      events: [run.events.end(id, taken.timings)],
      ...this.#requests.done(command, run.events, taken.timings, id),
    }));
    return { changed: true, attachments: this.#found(id), steps: timings };
  }

  #toDetach(command: DetachCommand, run: Run): Attachment {
    if (command.target === '/')
      throw new ShiftvolError('SV_USAGE', `Cannot detach the root file system of "${run.resolved.key}"`, {
        field: 'target',
        remedy: 'use destroy',
      });
    const target = command.target === undefined ? undefined : requireTarget(command.target);
    const mine = this.#deps.journal.list(run.resolved.key);
    const found = mine.find(a =>
      target === undefined ? a.plan.volumeId === command.volumeId : a.plan.target === target,
    );
    if (found && found.status.state !== 'detached') return found;
    throw attachmentNotFound(`"${command.instance.ref}:${target ?? command.volumeId}"`);
  }

  async #destroy(command: DestroyCommand, run: Run): Promise<Ended> {
    const { key } = run.resolved;
    const mine = this.#toDestroy(command, run);
    this.#deps.journal.record({ ...this.#requests.open(command), events: [run.events.start()] });
    const steps: StepTiming[] = [];
    for (const one of mine) steps.push(...(await this.#destroyOne(command, run, one)));
    const none = this.#deps.journal.list(key).length === 0;
    this.#deps.journal.record({
      ...(none && { release: key }),
      events: [run.events.end(undefined, steps)],
      ...this.#requests.done(command, run.events, steps),
    });
    return { changed: true, attachments: [], steps };
  }

  /** The root file system comes last: volumes may be mounted below it. */
  #toDestroy(command: DestroyCommand, run: Run): Attachment[] {
    const { key } = run.resolved;
    const target =
      command.target === undefined || command.target === '/' ? command.target : requireTarget(command.target);
    const mine = this.#deps.journal.list(key).filter(a => target === undefined || a.plan.target === target);
    if (mine.length === 0 && (target !== undefined || !this.#deps.journal.allocation(key)))
      throw attachmentNotFound(`"${command.instance.ref}${target === undefined ? '' : `:${target}`}"`);
    return mine.toSorted((a, b) => Number(a.plan.role === 'root') - Number(b.plan.role === 'root'));
  }

  async #destroyOne(command: DestroyCommand, run: Run, one: Attachment): Promise<readonly StepTiming[]> {
    if (one.plan.role === 'root' && run.resolved.instance?.running && !command.lazy)
      throw new ShiftvolError(
        'SV_BUSY',
        `Cannot destroy the root file system of "${run.resolved.key}": the instance runs`,
        { remedy: 'stop it first' },
      );
    const settled = await this.#settled(one, run.signal);
    let timings: readonly StepTiming[] = [];
    if (settled?.status.state === 'attached') ({ timings } = await this.#takeAway(command, run, settled, () => ({})));
    const kept = this.#deps.journal.find(one.plan.id);
    if (kept) await removeKept(this.#deps, kept, {});
    return timings;
  }

  async #takeAway(
    command: DetachCommand | DestroyCommand,
    run: Run,
    attachment: Attachment,
    closing: (taken: Taken) => Also,
  ): Promise<Taken> {
    const { instance } = run.resolved;
    return await takeAway(
      this.#deps,
      this.#steps,
      attachment,
      { lazy: command.lazy, instance, signal: run.signal },
      closing,
    );
  }

  /** What an earlier run left half way is ended first. @throws SV_BUSY: it cannot be */
  async #settled(attachment: Attachment | undefined, signal: AbortSignal): Promise<Attachment | undefined> {
    if (!attachment || attachment.status.state === 'attached' || attachment.status.state === 'detached')
      return attachment;
    try {
      await recoverOne(this.#deps, this.#steps, attachment, signal);
    } catch (cause) {
      throw unfinished(attachment, cause);
    }
    return this.#deps.journal.find(attachment.plan.id);
  }

  async #template(name: string): Promise<Template>;
  async #template(name: string | undefined): Promise<Template | undefined>;
  async #template(name: string | undefined): Promise<Template | undefined> {
    return name === undefined ? undefined : await this.#deps.backend.getTemplate(name);
  }

  #found(id: Plan['id']): readonly Attachment[] {
    const attachment = this.#deps.journal.find(id);
    return attachment ? [attachment] : [];
  }

  #unchanged(command: Command, run: Run, attachment: Attachment | undefined): Ended {
    this.#deps.journal.record(this.#requests.done(command, run.events, [], attachment?.plan.id));
    return { changed: false, attachments: attachment ? [attachment] : [], steps: [] };
  }
}

function sameRequest(plan: Plan, { source, readOnly }: AttachCommand): boolean {
  if (plan.readOnly !== readOnly || plan.source.kind !== source.kind) return false;
  return source.kind === 'template'
    ? plan.source.kind === 'template' && plan.source.template === source.template
    : plan.source.kind !== 'template' && plan.source.path === source.path;
}
