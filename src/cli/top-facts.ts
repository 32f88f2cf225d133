/** What `shiftvol top` knows of an agent, asked once a second: of the agent what it alone knows, of this host what anybody can read. */
import type { BusStatus } from '../bus/service.ts';
import type { Config } from '../config/schema.ts';
import type { Run } from '../engine/recent-runs.ts';
import { isError, ShiftvolError } from '../errors.ts';
import { askStats, callAgent } from '../http/agent-client.ts';
import { intersect } from '../idmap/range.ts';
import { poolRoom } from '../storage/pool-status.ts';
import type { Census } from '../store/census.ts';
import { socketPath } from './engine-client.ts';
import { Window, type WorkFacts } from './top-window.ts';

/** The whole id space is asked of the runtime, which lists its containers for it. */
const IDS_EVERY_MS = 10_000;
const ANSWER_MS = 5000;

export type AgentStats = {
  readonly host: string;
  readonly pid: number;
  readonly bus: BusStatus | null;
  readonly journal: Census;
};
export type TopFacts = {
  readonly at: string;
  readonly host: string;
  readonly pid: number;
  readonly work: WorkFacts;
  readonly states: Census['attachments'];
  /** Null: there is no bus. */
  readonly bus: BusFacts | null;
  /** Null: there is no pool of ids, or nobody could say who has which. */
  readonly ids: { readonly size: number; readonly used: number } | null;
  /** Null: there is no pool. */
  readonly pool: { readonly sizeBytes: number; readonly freeBytes: number } | null;
  /** What ended since the last look. */
  readonly ended: readonly Run[];
};
export type BusFacts = {
  readonly healthy: boolean;
  readonly queues: number;
  readonly subscribed: number;
  /** Messages that nobody has yet; null before the first look. */
  readonly waiting: number | null;
  readonly deadLetters: number | null;
  readonly working: number;
  readonly published: number;
  /** Events that are still to be told. */
  readonly untold: number;
};

export class TopSource {
  readonly #config: Config;
  readonly #window = new Window();
  #version = 0;
  #pid: number | undefined;
  #ids: TopFacts['ids'] = null;
  #idsAt = Number.NEGATIVE_INFINITY;

  constructor(config: Config) {
    this.#config = config;
  }

  /** Undefined where no agent runs. @throws SV_AGENT, SV_HOST, SV_CANCELLED */
  async look(signal: AbortSignal): Promise<TopFacts | undefined> {
    const path = socketPath(this.#config.runDir);
    const told = await askStats(path, AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]));
    if (told === undefined) return undefined;
    const stats = parseStats(told, path);
    if (stats.pid !== this.#pid) this.#anew(stats.pid);
    const answer = await callAgent(path, { command: 'runs', since: this.#version }, { signal });
    if (answer === undefined) return undefined;
    // The agent's own form of it, RecentRuns.since.
    const { version, runs } = answer.result as { readonly version: number; readonly runs: readonly Run[] };
    this.#version = version;
    const now = performance.now();
    const ended = this.#window.add(runs, now);
    return {
      at: new Date().toISOString(),
      host: stats.host,
      pid: stats.pid,
      work: this.#window.facts(now),
      states: stats.journal.attachments,
      bus: busFacts(stats),
      ids: await this.#idSpace(path, signal),
      pool: pool(this.#config),
      ended,
    };
  }

  #anew(pid: number): void {
    this.#pid = pid;
    this.#version = 0;
    this.#window.clear();
  }

  async #idSpace(path: string, signal: AbortSignal): Promise<TopFacts['ids']> {
    if (performance.now() - this.#idsAt < IDS_EVERY_MS) return this.#ids;
    this.#idsAt = performance.now();
    const { readPool } = await import('./assemble.ts');
    try {
      const [{ uid }, answer] = await Promise.all([
        readPool(this.#config.subidOwner),
        callAgent(path, { command: 'idmap.list' }, { signal }),
      ]);
      const { ranges } = (answer?.result ?? { ranges: [] }) as { ranges: readonly Used[] }; // as Engine.usedIds has it
      const used = intersect(
        uid,
        ranges.filter(range => range.kind === 'uid'),
      );
      this.#ids = { size: total(uid), used: total(used) };
    } catch (error) {
      if (signal.aborted || !isError(error)) throw error;
      this.#ids = null;
    }
    return this.#ids;
  }
}

type Used = { readonly kind: 'uid' | 'gid'; readonly start: number; readonly count: number };
const total = (ranges: readonly { readonly count: number }[]): number => ranges.reduce((all, r) => all + r.count, 0);

/** An agent of another version may answer otherwise: its bus and journal are taken as they are where it has them. @throws SV_AGENT */
function parseStats(told: unknown, path: string): AgentStats {
  if (typeof told === 'object' && told !== null && 'pid' in told && 'bus' in told && 'journal' in told)
    return told as AgentStats; // what agent.ts answers
  throw new ShiftvolError(
    'SV_AGENT',
    `Cannot watch the agent at "${path}": it is of another version and tells no numbers`,
    {
      remedy: 'start it anew: it runs an older shiftvol than this command',
    },
  );
}

function busFacts({ bus, journal }: AgentStats): BusFacts | null {
  if (bus === null) return null;
  const { listen } = bus;
  const sum = (of: (l: (typeof listen)[number]) => number | undefined): number | null => {
    const known = listen.map(of);
    return known.some(n => n === undefined) ? null : known.reduce<number>((all, n) => all + (n ?? 0), 0);
  };
  return {
    healthy: bus.healthy,
    queues: listen.length,
    subscribed: listen.filter(l => l.subscribed).length,
    waiting: sum(l => l.backlog?.waiting),
    deadLetters: sum(l => l.backlog?.deadLetters),
    working: sum(l => l.working) ?? 0,
    published: bus.publisher.published,
    untold: journal.events,
  };
}

function pool({ stateDir, poolDir }: Config): TopFacts['pool'] {
  try {
    const { mounted, sizeBytes, freeBytes } = poolRoom({ stateDir, poolDir });
    return mounted ? { sizeBytes, freeBytes } : null;
  } catch (error) {
    if (isError(error, 'SV_POOL_NOT_FOUND')) return null;
    throw error;
  }
}
