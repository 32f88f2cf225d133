import { ShiftvolError } from '../errors.ts';
import { allocateRange } from '../idmap/allocate.ts';
import type { IdRange } from '../idmap/idmap.ts';
import { overlaps, showRange } from '../idmap/range.ts';
import type { InstanceKey } from './model.ts';
import type { Allocation, Journal, RangeSource, UsedRange } from './ports.ts';

export type IdPool = { readonly uid: readonly IdRange[]; readonly gid: readonly IdRange[] };

export type AllocatorDeps = {
  readonly journal: Journal;
  /** Reads the subuid and subgid entries anew: an administrator may have changed them. @throws SV_HOST: no entry */
  readonly pool: () => Promise<IdPool>;
  readonly sources: readonly RangeSource[];
  /** Ids for an instance unless asked otherwise. */
  readonly rangeSize: number;
};

type AllocateOptions = {
  readonly count?: number | undefined;
  readonly start?: number | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** Gives each instance a range of its own, that overlaps nobody's on this host. */
export class Allocator {
  readonly #deps: AllocatorDeps;
  /** Picking and journaling a range is one critical section: two instances at once must not pick the same. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(deps: AllocatorDeps) {
    this.#deps = deps;
  }

  /**
   * The instance's allocation: the one that it has, or a new one that `commit` journals together with the intent.
   * Afterwards the other sources are asked again: a runtime that started something in the same moment wins, and we take another.
   * @throws SV_RANGE_EXHAUSTED, SV_RANGE_TAKEN
   */
  async allocate(
    instance: InstanceKey,
    options: AllocateOptions,
    commit: (fresh: Allocation) => void,
  ): Promise<Allocation> {
    const turn = this.#turn.then(() => this.#pick(instance, options, commit));
    this.#turn = turn.catch(() => undefined);
    return await turn;
  }

  /** The range that `allocate` would give now. Reserves nothing. */
  async preview(
    instance: InstanceKey,
    { count, start, signal }: AllocateOptions,
  ): Promise<Pick<Allocation, 'uid' | 'gid'>> {
    const existing = this.#existing(instance, { count, start });
    if (existing) return existing;
    const [pool, used] = await Promise.all([this.#deps.pool(), this.used(signal)]);
    const want = count ?? this.#deps.rangeSize;
    return allocateRange({ want, pool, used, ...(start === undefined ? {} : { start }) });
  }

  /** Everybody's ranges, ours included. */
  async used(signal?: AbortSignal): Promise<readonly UsedRange[]> {
    return [...this.#ours(), ...(await this.#others(signal))];
  }

  async #pick(
    instance: InstanceKey,
    { count, start, signal }: AllocateOptions,
    commit: (fresh: Allocation) => void,
  ): Promise<Allocation> {
    const existing = this.#existing(instance, { count, start });
    if (existing) return existing;
    const pool = await this.#deps.pool();
    const want = count ?? this.#deps.rangeSize;
    let others = await this.#others(signal);
    for (let attempt = 1; ; attempt++) {
      const used = [...this.#ours(instance), ...others];
      const { uid, gid } = allocateRange({ want, pool, used, ...(start === undefined ? {} : { start }) });
      const fresh: Allocation = { instance, uid, gid, createdAt: new Date().toISOString() };
      commit(fresh);
      others = await this.#others(signal);
      const clash = others.find(range => overlaps(range, range.kind === 'uid' ? uid : gid));
      if (!clash) return fresh;
      if (attempt < ATTEMPTS) continue;
      this.#deps.journal.record({ release: instance });
      throw new ShiftvolError(
        'SV_RANGE_TAKEN',
        `Cannot give ids to "${instance}": ${clash.owner} took ${showRange(clash)} at the same moment, ${ATTEMPTS} times in a row`,
        { remedy: 'try again; give "shiftvol" ids in /etc/subuid that nothing else allocates from' },
      );
    }
  }

  /** What the instance has. @throws SV_RANGE_TAKEN: it is not what is asked for */
  #existing(instance: InstanceKey, { count, start }: AllocateOptions): Allocation | undefined {
    const existing = this.#deps.journal.allocation(instance);
    if (
      !existing ||
      ((count ?? existing.uid.count) === existing.uid.count && (start ?? existing.uid.start) === existing.uid.start)
    )
      return existing;
    throw new ShiftvolError(
      'SV_RANGE_TAKEN',
      `Cannot give "${instance}" other ids: it has ${showRange(existing.uid)} already`,
      { field: start === undefined ? 'count' : 'start', remedy: `run "shiftvol idmap release ${instance}" first` },
    );
  }

  #ours(except?: InstanceKey): UsedRange[] {
    return this.#deps.journal
      .allocations()
      .filter(a => a.instance !== except)
      .flatMap(a => [
        { kind: 'uid' as const, ...a.uid, owner: `shiftvol ${a.instance}` },
        { kind: 'gid' as const, ...a.gid, owner: `shiftvol ${a.instance}` },
      ]);
  }

  async #others(signal?: AbortSignal): Promise<UsedRange[]> {
    return (await Promise.all(this.#deps.sources.map(source => source.usedRanges(signal)))).flat();
  }
}

/** A runtime may start something in the moment between our look and our note; it does not do so for ever. */
const ATTEMPTS = 5;
