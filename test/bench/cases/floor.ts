/**
 * Prepare and detach beside the bare system calls in C, in turns, all template sizes of one file system in each round: so a slow moment
 * of the machine falls on all of them.
 */
import { join } from 'node:path';
import type { Template } from '../../../src/engine/ports.ts';
import type { Bench } from '../bench.ts';
import { compileFloor, Floor, type FloorResult, type Phases } from '../floor.ts';
import { type BenchHost, ID_POOL, reserve, startHost, wearIn } from '../host.ts';
import type { BenchFs } from '../options.ts';
import { type Row, ratioRow, thousands } from '../report.ts';
import { median, round } from '../statistics.ts';

const PEER = 'bare system calls (C)';
const AT_MOST = 1.25;
const GROWTH_AT_MOST = 1.1;
/** The first rounds load code and fill caches, on both sides. */
const WARM_UP = 3;

type Series = {
  readonly files: number;
  readonly template: Template;
  readonly floor: Floor;
  readonly prepare: Pair;
  readonly detach: Pair;
  /** With a snapshot that was ready beforehand, beside the same peer. */
  readonly spare: { readonly prepare: Pair; readonly detach: Pair };
};
type Pair = { readonly ours: FloorResult[]; readonly peer: FloorResult[] };

export async function floorCase(bench: Bench): Promise<readonly Row[]> {
  const program = compileFloor(bench.workspace);
  const rows: Row[] = [];
  for (const fs of bench.options.fs) rows.push(...(await oneFileSystem(bench, program, fs)));
  return rows;
}

async function oneFileSystem(bench: Bench, program: string, fs: BenchFs): Promise<readonly Row[]> {
  const { workspace, options, pool } = bench;
  await using host = await startHost(workspace, pool, `floor-${fs}`);
  await using withSpares = await startHost(workspace, pool, `spare-${fs}`, { more: { spares: 1 } });
  for (const one of [host, withSpares]) await wearIn(one);
  await using stack = new AsyncDisposableStack();
  const series: Series[] = [];
  for (const files of options.files) {
    const template = await pool.template(files, fs);
    const at = {
      template: template.path,
      snapshots: join(pool.poolDir, 'floor'),
      mounts: join(workspace.runDir, 'floor'),
      fs,
      hostId: ID_POOL.start,
    };
    const floor = stack.use(new Floor(program, at));
    const peer: Record<'prepare' | 'detach', FloorResult[]> = { prepare: [], detach: [] };
    const pairs = () => ({ prepare: { ours: [], peer: peer.prepare }, detach: { ours: [], peer: peer.detach } });
    series.push({ files, template, floor, ...pairs(), spare: pairs() });
  }
  for (let round = 0; round < options.rounds + WARM_UP; round++)
    for (const one of series) {
      workspace.signal.throwIfAborted();
      // Now the one first, now the other: what the first leaves to the disk to do slows the second.
      const ours = async () => {
        await ourRound(host, one, one.template, round, workspace.signal);
        await ourRound(withSpares, one.spare, one.template, round, workspace.signal);
        // Made beside what is measured next, it would slow that.
        await withSpares.spares?.ready();
      };
      if (round % 2 === 0) await ours();
      await peerRound(one, round);
      if (round % 2 === 1) await ours();
    }
  if (options.phases) for (const one of series) tellPhases(bench, fs, one);
  return [
    ...series.map(({ files, prepare }) => ratioRow({ case: 'prepare', files, fs }, times(prepare), AT_MOST)),
    ...series.map(({ files, detach }) => ratioRow({ case: 'detach', files, fs }, times(detach), AT_MOST)),
    ...series.map(({ files, spare }) =>
      ratioRow({ case: 'prepare, one ready', files, fs }, times(spare.prepare), AT_MOST),
    ),
    ...series.map(({ files, spare }) =>
      ratioRow({ case: 'detach, one ready', files, fs }, times(spare.detach), AT_MOST),
    ),
    ...growth(series, fs),
  ];
}

async function ourRound(
  { engine }: BenchHost,
  { prepare, detach }: Pick<Series, 'prepare' | 'detach'>,
  template: Template,
  round: number,
  signal: AbortSignal,
): Promise<void> {
  const instance = { ref: `bench-${template.name}-${round}` };
  await reserve(engine, instance, signal);
  const spawned = await clocked(() => engine.execute({ action: 'spawn', instance, template: template.name }, signal));
  const destroyed = await clocked(() => engine.execute({ action: 'destroy', instance, lazy: false }, signal));
  if (round < WARM_UP) return;
  prepare.ours.push(spawned);
  detach.ours.push(destroyed);
}

async function peerRound(one: Series, round: number): Promise<void> {
  const name = `floor-${one.files}-${round}`;
  const attached = await one.floor.attach(name);
  const detached = await one.floor.detach(name);
  if (round < WARM_UP) return;
  one.prepare.peer.push(attached);
  one.detach.peer.push(detached);
}

async function clocked(
  work: () => Promise<{ readonly steps: readonly { readonly step: string; readonly ms: number }[] }>,
): Promise<FloorResult> {
  const started = performance.now();
  const { steps } = await work();
  const ms = performance.now() - started;
  const inSteps = steps.reduce((sum, step) => sum + step.ms, 0);
  return {
    ms,
    phases: { ...Object.fromEntries(steps.map(({ step, ms }) => [step, ms])), 'journal and rest': ms - inSteps },
  };
}

function times({ ours, peer }: Pair) {
  return { ours: ours.map(r => r.ms), peer: peer.map(r => r.ms), peerName: PEER };
}

/** How much more the largest template costs than the smallest: ours by theirs, round by round. */
function growth(series: readonly Series[], fs: BenchFs): readonly Row[] {
  const [small, large] = [series[0], series.at(-1)];
  if (small === undefined || large === undefined || small === large) return [];
  const factors = (side: 'ours' | 'peer') =>
    large.prepare[side].map(({ ms }, i) => ms / (small.prepare[side][i]?.ms ?? Number.NaN));
  const name = `growth ${thousands(small.files)} to ${thousands(large.files)}`;
  const pairs = { ours: factors('ours'), peer: factors('peer'), peerName: PEER };
  const { ratio, goal, met } = ratioRow({ case: name }, pairs, GROWTH_AT_MOST);
  return [{ ...ratioRow({ case: name, files: large.files, fs }, times(large.prepare)), ratio, goal, met }];
}

function tellPhases({ workspace }: Bench, fs: BenchFs, { files, prepare, detach, spare }: Series): void {
  const pairs = { prepare, 'prepare, one ready': spare.prepare, detach, 'detach, one ready': spare.detach };
  for (const [what, { ours, peer }] of Object.entries(pairs))
    for (const [who, results] of Object.entries({ ours, peer }))
      workspace.log(`${what} ${fs} ${thousands(files)} ${who}: ${phaseMedians(results.map(r => r.phases))}`);
}

function phaseMedians(all: readonly Phases[]): string {
  return Object.keys(all[0] ?? {})
    .map(name => `${name} ${round(median(all.map(phases => phases[name] ?? 0)))}`)
    .join(', ');
}
