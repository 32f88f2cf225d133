/**
 * What is, as all who look see it: read while somebody looks and something has changed, never oftener than a tenth of a processor allows,
 * and put into words once, however many look. What changed since is kept for those who were away for a moment, up to a bound.
 */
import { randomBytes } from 'node:crypto';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { Backlog, type Frame } from './backlog.ts';

export type Section = {
  readonly name: string;
  /** All rows; with `groups`, those of these groups alone. Each has a key that stays and the group that it is of. */
  read(groups: ReadonlySet<string> | 'all', signal: AbortSignal): Promise<readonly SectionRow[]>;
  /** A change of one group is read as such; else all of it is. */
  readonly grouped: boolean;
  /** Looked at again after so long, even though nobody told of a change. */
  readonly idleMs: number;
  /** Not looked at again sooner. */
  readonly restMs: number;
};
export type SectionRow = { readonly key: string; readonly group: string; readonly value: unknown };

export type FeedOptions = {
  readonly sections: readonly Section[];
  /** Facts that do not change, in every snapshot. */
  readonly facts: object;
  /** Tells of changes, from when the first looks until the last has gone. */
  watch(changed: (group?: string) => void): Disposable;
  /** The last has gone, and all that was kept for him. */
  onNobody?(): void;
  /** A section could not be read. */
  onError(section: string, error: unknown): void;
};

/** Of a processor, for each section, and whatever there is to read. */
const PART = 0.1;
/** The first is shown what is known by then. */
const FIRST_MS = 1500;
/** Steps come in dozens. */
const GATHER_MS = 100;
/** The event loop is not held up for longer. */
const TURN_MS = 4;
const MOST_GROUPS = 64;
/** A page that is loaded again is back by then, and gets what changed. */
const LINGER_MS = 10_000;

type Known = { readonly json: string; readonly group: string };
type SectionState = {
  readonly section: Section;
  readonly rows: Map<string, Known>;
  /** What may be otherwise by now, and since when. Times by performance.now(). */
  dirty: Set<string> | 'all';
  dirtyAt: number;
  /** All of it. */
  readAt: number;
  allNotBefore: number;
  someNotBefore: number;
  reading: boolean;
  timer: NodeJS.Timeout | undefined;
  failed: string | undefined;
};

export class Feed implements Disposable {
  readonly #options: FeedOptions;
  readonly #listeners = new Set<() => void>();
  readonly #epoch = randomBytes(6).toString('hex');
  #states: SectionState[] = [];
  readonly #backlog = new Backlog();
  #sequence = 0;
  #snapshot: Frame | undefined;
  #watching: Disposable | undefined;
  #linger: NodeJS.Timeout | undefined;
  #work = new AbortController();
  #first: Promise<void> | undefined;
  #isOpen = false;
  /** How long the last look at each section took, in milliseconds. */
  readonly ticks = new Map<string, number>();

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  get watched(): boolean {
    return this.#watching !== undefined;
  }

  /** Calls back when there are new frames. Resolves when there is something to show; looking ends with the last who does. */
  async join(listener: () => void): Promise<Disposable> {
    this.#listeners.add(listener);
    clearTimeout(this.#linger);
    if (!this.#watching) this.#start();
    const leave = () => {
      if (!this.#listeners.delete(listener) || this.#listeners.size > 0) return;
      this.#linger = setTimeout(() => {
        this.#stop();
        this.#options.onNobody?.();
      }, LINGER_MS).unref();
    };
    await this.#first;
    return { [Symbol.dispose]: leave };
  }

  /** All that is. One buffer for all. */
  snapshot(): Frame {
    this.#snapshot ??= this.#frame('snapshot', {
      ...this.#options.facts,
      sections: Object.fromEntries(
        this.#states.map(({ section, rows, failed }) => [
          section.name,
          {
            rows: new Raw(
              `[${rows
                .values()
                .map(row => row.json)
                .toArray()
                .join(',')}]`,
            ),
            failed: failed ?? null,
          },
        ]),
      ),
    });
    return this.#snapshot;
  }

  /** What comes after that, the oldest first; undefined where that is not known any more. */
  after(sequence: number): readonly Frame[] | undefined {
    return sequence === this.#sequence ? [] : this.#backlog.after(sequence);
  }

  /** The number in a `Last-Event-ID`, where it is one of this feed. */
  sequenceOf(lastEventId: string | undefined): number | undefined {
    const [epoch, number] = lastEventId?.split('-') ?? [];
    return epoch === this.#epoch && number !== undefined && /^\d{1,15}$/.test(number) ? Number(number) : undefined;
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  #start(): void {
    this.#work = new AbortController();
    this.#states = this.#options.sections.map(section => ({
      section,
      rows: new Map(),
      dirty: 'all',
      dirtyAt: 0,
      readAt: Number.NEGATIVE_INFINITY,
      allNotBefore: 0,
      someNotBefore: 0,
      reading: false,
      timer: undefined,
      failed: undefined,
    }));
    this.#watching = this.#options.watch(group => this.#mark(group));
    const all = Promise.all(this.#states.map(state => this.#read(state)));
    // What takes longer is told when it is there.
    this.#first = Promise.race([all, sleep(FIRST_MS, undefined, { ref: false })]).then(() => {
      this.#isOpen = true;
    });
  }

  #stop(): void {
    for (const state of this.#states) clearTimeout(state.timer);
    clearTimeout(this.#linger);
    this.#work.abort();
    this.#watching?.[Symbol.dispose]();
    this.#watching = undefined;
    this.#isOpen = false;
    this.#states = [];
    this.#backlog.clear();
    this.#snapshot = undefined;
    // Whoever comes back has missed what was not looked at.
    this.#sequence++;
  }

  #mark(group: string | undefined): void {
    const now = performance.now();
    for (const state of this.#states) {
      const { dirty, section } = state;
      if (dirty === 'all') continue;
      if (dirty.size === 0) state.dirtyAt = now;
      if (group === undefined || !section.grouped || dirty.size >= MOST_GROUPS) state.dirty = 'all';
      else dirty.add(group);
      this.#plan(state);
    }
  }

  /** Each section for itself: a runtime that does not answer holds up nothing else. */
  #plan(state: SectionState): void {
    if (state.reading || this.#work.signal.aborted) return;
    clearTimeout(state.timer);
    state.timer = setTimeout(() => void this.#read(state), Math.max(0, dueAt(state) - performance.now())).unref();
  }

  async #read(state: SectionState): Promise<void> {
    const { signal } = this.#work;
    state.reading = true;
    const change = await this.#look(state, signal);
    state.reading = false;
    if (signal.aborted) return;
    if (change) this.#tell({ [state.section.name]: change });
    this.#plan(state);
  }

  /** What is otherwise than before. */
  async #look(state: SectionState, signal: AbortSignal): Promise<object | undefined> {
    const { section } = state;
    const isIdle = Math.max(state.readAt + section.idleMs, state.allNotBefore) <= performance.now();
    const groups = isIdle ? 'all' : state.dirty;
    state.dirty = new Set();
    const started = performance.now();
    let failed: string | undefined;
    let change: { set: Raw; gone: readonly string[] } | undefined;
    try {
      change = await difference(state, await section.read(groups, signal), groups);
    } catch (error) {
      if (signal.aborted) return undefined;
      this.#options.onError(section.name, error);
      failed = error instanceof Error ? error.message.slice(0, 500) : 'it cannot be read';
    }
    const now = performance.now();
    this.ticks.set(section.name, now - started);
    const notBefore = now + Math.max(section.restMs, (now - started) / PART);
    if (groups === 'all') {
      state.readAt = now;
      state.allNotBefore = notBefore;
    } else state.someNotBefore = notBefore;
    if (!change && failed === state.failed) return undefined;
    state.failed = failed;
    return { ...(change ?? { set: new Raw('[]'), gone: [] }), failed: failed ?? null };
  }

  #tell(changes: object): void {
    this.#snapshot = undefined;
    // Nobody has been shown anything yet.
    if (!this.#isOpen) return;
    this.#sequence++;
    this.#backlog.push(this.#frame('change', changes));
    for (const listener of this.#listeners) listener();
  }

  #frame(event: 'snapshot' | 'change', data: object): Frame {
    const id = `${this.#epoch}-${this.#sequence}`;
    return {
      sequence: this.#sequence,
      bytes: Buffer.from(`id: ${id}\nevent: ${event}\ndata: ${stringify(data)}\n\n`),
    };
  }
}

/** What all of it cost puts off looking at all of it, not at a part. */
function dueAt({ section, dirty, dirtyAt, readAt, allNotBefore, someNotBefore }: SectionState): number {
  const idle = Math.max(allNotBefore, readAt + section.idleMs);
  if (dirty === 'all') return Math.min(idle, Math.max(allNotBefore, dirtyAt + GATHER_MS));
  return dirty.size === 0 ? idle : Math.min(idle, Math.max(someNotBefore, dirtyAt + GATHER_MS));
}

/** Takes over the rows that were read; others have their turn in between. Undefined where nothing is otherwise. */
async function difference(
  state: SectionState,
  rows: readonly SectionRow[],
  groups: ReadonlySet<string> | 'all',
): Promise<{ set: Raw; gone: readonly string[] } | undefined> {
  const set: string[] = [];
  const seen = new Set<string>();
  let turn = performance.now();
  for (const { key, group, value } of rows) {
    if (performance.now() - turn > TURN_MS) {
      await nextTurn();
      turn = performance.now();
    }
    const json = JSON.stringify(value);
    seen.add(key);
    if (state.rows.get(key)?.json === json) continue;
    state.rows.set(key, { json, group });
    set.push(json);
  }
  const gone: string[] = [];
  for (const [key, { group }] of state.rows)
    if (!seen.has(key) && (groups === 'all' || groups.has(group))) gone.push(key);
  for (const key of gone) state.rows.delete(key);
  return set.length === 0 && gone.length === 0 ? undefined : { set: new Raw(`[${set.join(',')}]`), gone };
}

/** JSON already. */
class Raw {
  readonly json: string;

  constructor(json: string) {
    this.json = json;
  }
}

/** As JSON.stringify for plain objects, with `Raw` as it is. */
function stringify(value: unknown): string {
  if (value instanceof Raw) return value.json;
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, one]) => `${JSON.stringify(key)}:${stringify(one)}`)
    .join(',')}}`;
}
