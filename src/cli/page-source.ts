/** Where the page has its facts from. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config/schema.ts';
import type { Engine } from '../engine/engine.ts';
import type { InstanceKey } from '../engine/model.ts';
import type { UsedRange } from '../engine/ports.ts';
import type { Run } from '../engine/recent-runs.ts';
import { callAgent } from '../http/agent-client.ts';
import type { ApiRequest } from '../http/api.ts';
import { type AttachmentView, listView, viewOf } from '../http/view.ts';
import { parseSubid } from '../idmap/subid.ts';
import { readIfThere } from '../kernel/read-if-there.ts';
import { type Claim, laneOf } from '../page/id-space.ts';
import type { TemplateRow } from '../page/rows.ts';
import type { DeadLetterSource, PageSource } from '../page/source.ts';
import type { Store } from '../store/journal.ts';
import { socketPath } from './engine-client.ts';

/** The engine of this process. */
export function engineSource(config: Config, engine: Engine): PageSource {
  return {
    ...hostParts(config),
    attachments: async groups =>
      groups === 'all'
        ? listView(engine.list())
        : // An instance's key, as the engine itself told it; of any other text there is nothing.
          [...groups].flatMap(instance => engine.list(instance as InstanceKey).map(viewOf)),
    runs: async () => engine.runs.since(0).runs,
    claims: async signal => [...claimsOf(await engine.usedIds(signal)), ...(await subidClaims())],
    watch: changed => engine.runs.onChange(changed),
  };
}

/** How often the agent is asked what it did, and, where none runs, the journal is looked at. */
const ASK_MS = 400;
const LOOK_MS = 2000;
/** Above that the whole list is one question instead of many. */
const MOST_QUESTIONS = 8;
const MOST_RUNS = 256;

/** The agent of this host over its socket; where none runs the journal, as `list` reads it. Each look finds out which. */
export function hostSource(config: Config): PageSource {
  const path = socketPath(config.runDir);
  const known = new Map<number, Run>();
  let [epoch, version] = ['', 0];
  const ask = async (request: ApiRequest, signal: AbortSignal) => await callAgent(path, request, { signal });

  /** The instances that something was done with since; undefined where that is not known. */
  const askRuns = async (signal: AbortSignal): Promise<readonly string[] | undefined> => {
    const answer = await ask({ command: 'runs', since: version }, signal);
    // Our own agent's answer, see http/api.ts.
    const told = answer?.result as ReturnType<Engine['runs']['since']> | undefined;
    const isSame = told !== undefined && told.epoch === epoch;
    if (!isSame) known.clear();
    // Of another memory all is asked for the next time.
    [epoch, version] = [told?.epoch ?? '', isSame ? told.version : 0];
    const runs = told?.runs ?? [];
    for (const run of runs) known.set(run.id, run);
    for (const id of known.keys()) if (known.size > MOST_RUNS) known.delete(id);
    return isSame ? runs.map(run => run.instance) : undefined;
  };

  return {
    ...hostParts(config),
    async attachments(groups, signal) {
      const some = groups !== 'all' && groups.size <= MOST_QUESTIONS ? [...groups] : undefined;
      const requests = some?.map(instance => ({ command: 'list' as const, instance })) ?? [
        { command: 'list' as const },
      ];
      const answers = await Promise.all(requests.map(request => ask(request, signal)));
      // The same.
      if (answers.every(answer => answer !== undefined))
        return answers.flatMap(answer => answer.result as readonly AttachmentView[]).filter(isIn(groups));
      return (await readJournal(config, store => listView(store.list()), [])).filter(isIn(groups));
    },
    runs: async () => [...known.values()],
    async claims(signal) {
      const answer = await ask({ command: 'idmap.list' }, signal);
      const used = answer
        ? // The same.
          (answer.result as { readonly ranges: readonly UsedRange[] }).ranges
        : await usedHere(config, signal);
      return [...claimsOf(used), ...(await subidClaims())];
    },
    watch(changed) {
      const over = new AbortController();
      void poll(over.signal, async () => {
        const instances = await askRuns(over.signal);
        if (instances) for (const instance of instances) changed(instance);
        else changed();
        // Without an agent each look takes the journal from others for a moment.
        return epoch === '' ? LOOK_MS : ASK_MS;
      });
      return { [Symbol.dispose]: () => over.abort() };
    },
  };
}

const isIn =
  (groups: ReadonlySet<string> | 'all') =>
  ({ instance }: AttachmentView): boolean =>
    groups === 'all' || groups.has(instance);

/** Until `signal` is aborted; an agent that is just being started again is asked again later. */
async function poll(signal: AbortSignal, once: () => Promise<number>): Promise<void> {
  const { setTimeout: sleep } = await import('node:timers/promises');
  while (!signal.aborted) {
    const pause = await once().catch(() => LOOK_MS);
    await sleep(pause, undefined, { signal }).catch(() => undefined);
  }
}

/** What needs no engine: templates, dead letters. */
function hostParts(config: Config): Pick<PageSource, 'host' | 'templates' | 'deadLetters'> {
  const hasBroker = config.bus.listen.length > 0 || config.bus.url !== null;
  return {
    host: config.host,
    async templates(signal): Promise<readonly TemplateRow[]> {
      const { listSharing } = await import('../storage/sharing.ts');
      return (await listSharing(config.poolDir, signal)).map(t => ({
        name: t.name,
        fsType: t.fsType,
        sizeBytes: t.sizeBytes,
        idBase: t.idBase,
        createdAt: t.createdAt,
        image: t.image,
        snapshots: { count: t.snapshots, ...t.taken },
      }));
    },
    ...(hasBroker && { deadLetters: deadLetterSource(config) }),
  };
}

function deadLetterSource(config: Config): DeadLetterSource {
  const load = () => import('../bus/dead-letters.ts');
  return {
    list: async signal => await (await load()).listDead(config, signal, 1000),
    async replay(ids, signal) {
      const { replayed, kept } = await (await load()).replayDead(config, ids, signal);
      return { done: replayed.map(r => r.id), kept: kept.map(({ id, why }) => ({ id, why })) };
    },
    drop: async (ids, signal) => ({ done: await (await load()).dropDead(config, ids, signal), kept: [] }),
  };
}

const claimsOf = (used: readonly UsedRange[]): readonly Claim[] =>
  used.map(({ kind, start, count, owner }) => ({ kind, start, count, owner, lane: laneOf(owner) }));

async function subidClaims(etc = '/etc'): Promise<readonly Claim[]> {
  const claims = await Promise.all(
    (['uid', 'gid'] as const).map(async kind => {
      const path = join(etc, `sub${kind}`);
      const { entries } = parseSubid((await readIfThere(path)) ?? '', path);
      return entries.map(({ start, count, owner }) => ({ kind, start, count, owner, lane: 'subid' as const }));
    }),
  );
  return claims.flat();
}

/** Short: this is the thread that answers, too. */
const LOCK_MS = 200;

/** @throws SV_LOCKED: another command works on it in this moment; SV_STORE */
async function readJournal<T>({ stateDir }: Config, read: (store: Store) => T, without: T): Promise<T> {
  if (!statSync(join(stateDir, 'journal.db'), { throwIfNoEntry: false })) return without;
  const { Store } = await import('../store/journal.ts');
  using store = new Store({ stateDir, lockTimeoutMs: LOCK_MS, outbox: false });
  return read(store);
}

/** What an engine would say of everybody's ids, without one. */
async function usedHere(config: Config, signal: AbortSignal): Promise<readonly UsedRange[]> {
  const [{ LxdRuntime }, { liveUserNamespaces }, { lxcContainers }] = await Promise.all([
    import('../container/lxd/runtime.ts'),
    import('../container/ranges/live.ts'),
    import('../container/ranges/lxc.ts'),
  ]);
  const { socket, project } = config.runtimes.lxd;
  using lxd = new LxdRuntime({ project, ...(socket !== null && { configured: socket }) });
  const ours = await readJournal(config, store => store.allocations(), []);
  const others = await Promise.all(
    [lxd, liveUserNamespaces(), lxcContainers()].map(source => source.usedRanges(signal)),
  );
  return [
    ...ours.flatMap(({ instance, uid, gid }) => [
      { kind: 'uid' as const, ...uid, owner: `shiftvol ${instance}` },
      { kind: 'gid' as const, ...gid, owner: `shiftvol ${instance}` },
    ]),
    ...others.flat(),
  ];
}
