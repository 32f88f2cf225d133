import { asError, ShiftvolError } from '../errors.ts';
import { type Adoption, adopt } from './adopt.ts';
import { commandChannel } from './channels.ts';
import { Commands, isCountedOn } from './commands.ts';
import type { EngineDeps } from './deps.ts';
import { EventMaker } from './events.ts';
import type {
  Attachment,
  AttachmentId,
  AttachVolumeCommand,
  Command,
  InstanceKey,
  InstanceRef,
  Outcome,
} from './model.ts';
import { type Move, noteMove } from './moved.ts';
import type { Allocation, UsedRange } from './ports.ts';
import { type Preview, preview } from './preview.ts';
import { type InOrder, KeyedQueue } from './queue.ts';
import { RecentRuns } from './recent-runs.ts';
import { type Recovered, recover } from './recover.ts';
import { attachmentNotFound, idsInUse } from './refuse.ts';
import { Requests } from './requests.ts';
import { resolve } from './resolve.ts';
import { Snapshots } from './snapshots.ts';
import { Standstills } from './standstills.ts';
import { makeSteps, type Steps } from './steps.ts';
import { type SwapRequest, swap } from './swap.ts';
import { Tasks } from './tasks.ts';
import type { VolumeService } from './volume-ports.ts';

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
  readonly #commands: Commands;
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
    const { standstills } = this;
    this.#commands = new Commands(deps, {
      steps: this.#steps,
      tasks: this.#tasks,
      requests: this.#requests,
      standstills,
    });
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
        const ended = await this.#instances.run(resolved.key, () =>
          this.#commands.do(command, { resolved, events, signal }),
        );
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
      return await adopt(
        this.#deps,
        adoption,
        resolved,
        attachment => this.#commands.settle(attachment, signal),
        signal,
      );
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
    const byId = this.#deps.journal.find(ref.ref as AttachmentId);
    if (byId) return [byId];
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
}
