/** What an agent holds: looked at when somebody asks, in the order of milliseconds, and the same with one attachment and with a thousand. */
import type { Metrics } from './client.ts';

export type Census = {
  readonly attachments: Readonly<Record<string, number>>;
  readonly allocations: number;
  readonly tasks: number;
  readonly events: number;
  readonly bytes: number;
};
export type Room = {
  readonly mounted: boolean;
  readonly sizeBytes: number;
  readonly freeBytes: number;
  readonly image?: { readonly hostFreeBytes: number };
  readonly templates: number;
  readonly snapshots: number;
  readonly saved: number;
};
export type Recovered = {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly attachments: readonly { readonly did: string }[];
  readonly tasks: readonly { readonly did: string }[];
  readonly leftovers: readonly { readonly kind: string }[];
};
export type AgentParts = {
  readonly census: () => Census;
  /** Snapshots that are ready beforehand. */
  readonly spares: () => number;
  /** Whether the journal can still be brought to the disk. */
  readonly canSync: () => boolean;
  /** Ids that are ours to give away, and those of them that somebody has. Asks the runtime. */
  readonly ids: (signal: AbortSignal) => Promise<{ readonly size: number; readonly used: number }>;
  /** @throws where there is no pool */
  readonly room: () => Room;
  /** What the last recover came to; undefined before the first. */
  readonly recovered: () => Recovered | undefined;
};

/** The runtime lists all of its instances for it. One that is away is not waited for by every scrape. */
const IDS_EVERY_MS = 60_000;
const IDS_AGAIN_MS = 10_000;
const IDS_MS = 2000;

/** Returns what brings them up to date. */
export function agentMetrics(metrics: Metrics, parts: AgentParts): () => Promise<void> {
  const errors = metrics.counter(
    'shiftvol_scrape_errors_total',
    'Parts of these metrics that could not be found out.',
    ['part'],
  );
  const updates: readonly (readonly [part: string, update: () => void | Promise<void>])[] = [
    ['journal', journal(metrics, parts)],
    ['pool', pool(metrics, parts)],
    ['recover', recovered(metrics, parts)],
    ['ids', ids(metrics, parts)],
  ];
  for (const [part] of updates) errors.inc({ part }, 0);
  return async () => {
    for (const [part, update] of updates) {
      try {
        await update();
      } catch {
        errors.inc({ part });
      }
    }
  };
}

function journal(metrics: Metrics, { census, canSync, spares }: AgentParts): () => void {
  const attachments = metrics.gauge('shiftvol_attachments', 'Attachments in the journal, by state.', ['state']);
  const instances = metrics.gauge('shiftvol_id_instances', 'Instances whose ids were given to them here.');
  const ready = metrics.gauge('shiftvol_spares_ready', 'Snapshots that are ready before anybody asks for them.');
  const tasks = metrics.gauge(
    'shiftvol_tasks_open',
    'Tasks that have begun and not ended: extend, snapshot, freeze, restore, swap.',
  );
  const events = metrics.gauge('shiftvol_events_pending', 'Results that the broker has not confirmed.');
  const bytes = metrics.gauge('shiftvol_journal_size_bytes', 'The journal and its log on the disk.');
  const failed = metrics.gauge(
    'shiftvol_journal_sync_failed',
    'The journal cannot be brought to the disk any more: 1, else 0.',
  );
  return () => {
    failed.set(canSync() ? 0 : 1);
    const now = census();
    for (const [state, n] of Object.entries(now.attachments)) attachments.set({ state }, n);
    instances.set(now.allocations);
    tasks.set(now.tasks);
    ready.set(spares());
    events.set(now.events);
    bytes.set(now.bytes);
  };
}

function pool(metrics: Metrics, { room }: AgentParts): () => void {
  const mounted = metrics.gauge('shiftvol_pool_mounted', 'The pool is there: 1, else 0.');
  const size = metrics.gauge('shiftvol_pool_size_bytes', 'The file system of the pool.');
  const free = metrics.gauge('shiftvol_pool_free_bytes', 'What is free in it.');
  const behind = metrics.gauge(
    'shiftvol_pool_backing_free_bytes',
    'What is free where the pool lies: as much as it can still grow in fact. The same for a pool without an image.',
  );
  const holds = metrics.gauge('shiftvol_pool_objects', 'What lies in the pool.', ['kind']);
  return () => {
    const now = room();
    mounted.set(now.mounted ? 1 : 0);
    size.set(now.sizeBytes);
    free.set(now.freeBytes);
    behind.set(now.image?.hostFreeBytes ?? now.freeBytes);
    holds.set({ kind: 'template' }, now.templates);
    holds.set({ kind: 'snapshot' }, now.snapshots);
    holds.set({ kind: 'saved' }, now.saved);
  };
}

const LEFTOVERS = ['snapshot', 'device', 'attachment', 'unseen'] as const;

function recovered(metrics: Metrics, { recovered }: AgentParts): () => void {
  const at = metrics.gauge('shiftvol_recover_last_timestamp_seconds', 'When the last recover ended; 0: none has.');
  const left = metrics.gauge(
    'shiftvol_recover_left',
    'What the last recover could not end, since something stands in the way.',
    ['kind'],
  );
  const strays = metrics.gauge(
    'shiftvol_recover_leftovers',
    'What looks like ours, is not in the journal and was left alone by the last recover; unseen: places that it could not look at.',
    ['kind'],
  );
  return () => {
    const last = recovered();
    at.set(last === undefined ? 0 : Math.round(last.at / 1000));
    left.set(
      { kind: 'attachment' },
      count(last?.attachments, one => one.did === 'left'),
    );
    left.set(
      { kind: 'task' },
      count(last?.tasks, one => one.did === 'left'),
    );
    for (const kind of LEFTOVERS)
      strays.set(
        { kind },
        count(last?.leftovers, one => one.kind === kind),
      );
  };
}

const count = <T>(all: readonly T[] | undefined, is: (one: T) => boolean): number => all?.filter(is).length ?? 0;

function ids(metrics: Metrics, parts: AgentParts): () => Promise<void> {
  const size = metrics.gauge('shiftvol_id_space_size', 'Host ids (uids) that are ours to give away.');
  const used = metrics.gauge('shiftvol_id_space_used', 'Those of them that somebody has: we, the runtime, others.');
  let nextAt = 0;
  return async () => {
    if (performance.now() < nextAt) return;
    nextAt = performance.now() + IDS_AGAIN_MS;
    const now = await parts.ids(AbortSignal.timeout(IDS_MS));
    size.set(now.size);
    used.set(now.used);
    nextAt = performance.now() + IDS_EVERY_MS;
  };
}
