/** How `shiftvol top` looks: facts in, lines out. Pure, but for the colours that the terminal has. */
import type { Run } from '../engine/recent-runs.ts';
import { bytes, paint } from './output.ts';
import type { BusFacts, TopFacts } from './top-facts.ts';
import type { StepRow } from './top-window.ts';

/** In the order that the key `s` goes through. */
export const SORTS = ['time', 'p99', 'count', 'name'] as const;
export type Sort = (typeof SORTS)[number];

export type View = {
  readonly facts: TopFacts;
  /** The newest first. */
  readonly last: readonly Run[];
  readonly sort: Sort;
  /** Drawn over the first line: what is otherwise than it should be. */
  readonly notice?: string;
  readonly columns: number;
  readonly rows: number;
};

const KEYS = 'q quit  p pause  s sort';
const BAR = 24;
/** Head, rates, states, bus, ids, pool, an empty line, and the heads of the two tables with one between. */
const FIXED_ROWS = 10;

/** At most `rows` lines, none wider than `columns`. */
export function screen(view: View): readonly string[] {
  const { facts, columns, rows } = view;
  const steps = sorted(facts.work.steps, view.sort);
  const room = Math.max(2, rows - FIXED_ROWS);
  const forSteps = Math.min(steps.length, Math.max(1, Math.floor(room / 2), room - view.last.length));
  const plain = (text: string) => cut(text, columns);
  const title = (text: string) => paint('bold', plain(text));
  const head = `shiftvol top  ${facts.host}  pid ${facts.pid}  ${facts.at.slice(11, 19)} UTC`;
  const lines = [
    view.notice === undefined ? spread(head, KEYS, columns) : paint('red', plain(view.notice)),
    plain(`work    ${ratesText(facts)}`),
    plain(`states  ${statesText(facts)}`),
    toned(facts.bus === null || facts.bus.healthy, plain(`bus     ${busText(facts.bus)}`)),
    toned(partOf(facts.ids) < 0.9, plain(`ids     ${idsText(facts)}`)),
    toned(partOf(roomOf(facts)) < 0.9, plain(`pool    ${poolText(facts)}`)),
    '',
    title(stepLine(['STEP', 'COUNT', 'FAILED', 'P50 MS', 'P99 MS', 'MAX MS'], view.sort)),
    ...steps.slice(0, forSteps).map(row => toned(row.failed === 0, plain(stepText(row)))),
    '',
    title('LAST'),
    ...view.last.map(run => toned(run.state !== 'failed', plain(runText(run)))),
  ];
  return lines.slice(0, rows);
}

function ratesText({ work }: TopFacts): string {
  const { actions, running, watchedSeconds } = work;
  const rates = actions.map(
    ({ action, perSecond, failed }) => `${action} ${perSecond.toFixed(1)}/s${failed > 0 ? ` (${failed} failed)` : ''}`,
  );
  return `${rates.length === 0 ? 'nothing' : rates.join('  ')}  under way ${running}  in the last ${watchedSeconds} s`;
}

function statesText({ states }: TopFacts): string {
  return Object.entries(states)
    .filter(([state, n]) => n > 0 || state === 'attached')
    .map(([state, n]) => `${state} ${n}`)
    .join('  ');
}

function busText(bus: BusFacts | null): string {
  if (bus === null) return 'none';
  const known = (n: number | null) => (n === null ? '?' : String(n));
  return [
    bus.healthy ? 'subscribed' : `NOT SUBSCRIBED (${bus.subscribed} of ${bus.queues})`,
    `waiting ${known(bus.waiting)}`,
    `working ${bus.working}`,
    `dead letters ${known(bus.deadLetters)}`,
    `told ${bus.published}`,
    `untold ${bus.untold}`,
  ].join('  ');
}

function idsText({ ids }: TopFacts): string {
  return ids === null ? 'no pool of ids' : `${bar(partOf(ids))}  ${ids.used} of ${ids.size} in use`;
}

function poolText(facts: TopFacts): string {
  const { pool } = facts;
  if (pool === null) return 'none';
  return `${bar(partOf(roomOf(facts)))}  ${bytes(pool.freeBytes)} free of ${bytes(pool.sizeBytes)}`;
}

type Part = { readonly size: number; readonly used: number } | null;
const partOf = (part: Part): number => (part === null || part.size === 0 ? 0 : part.used / part.size);
const roomOf = ({ pool }: TopFacts): Part =>
  pool && { size: pool.sizeBytes, used: Math.max(0, pool.sizeBytes - pool.freeBytes) };

/** `██████░░░░ 61%`; what is in use at all has a block. */
function bar(part: number): string {
  const filled = Math.min(BAR, part > 0 ? Math.max(1, Math.round(part * BAR)) : 0);
  return `${'█'.repeat(filled)}${'░'.repeat(BAR - filled)} ${String(Math.round(part * 100)).padStart(3)}%`;
}

function sorted(steps: readonly StepRow[], sort: Sort): readonly StepRow[] {
  switch (sort) {
    case 'time':
      return steps;
    case 'p99':
      return steps.toSorted((a, b) => b.p99Ms - a.p99Ms);
    case 'count':
      return steps.toSorted((a, b) => b.count - a.count);
    case 'name':
      return steps.toSorted((a, b) => (a.step < b.step ? -1 : 1));
    default:
      return sort satisfies never;
  }
}

type Cells = readonly [string, string, string, string, string, string];
function stepLine([name, ...numbers]: Cells, sort?: Sort): string {
  return `${name.padEnd(20)}${numbers.map(n => n.padStart(9)).join('')}${sort === undefined ? '' : `  by ${sort}`}`;
}

const stepText = ({ step, count, failed, p50Ms, p99Ms, maxMs }: StepRow): string =>
  stepLine([step, String(count), String(failed), p50Ms.toFixed(2), p99Ms.toFixed(2), maxMs.toFixed(2)]);

export function runText({ at, action, instance, attachment, state, durationMs, steps, error }: Run): string {
  const took = durationMs ?? steps.reduce((sum, { ms }) => sum + ms, 0);
  const why = error === undefined ? '' : `  ${error.code}: ${error.message}`;
  return `${at.slice(11, 19)}  ${(action ?? 'recover').padEnd(8)} ${state.padEnd(6)} ${took.toFixed(1).padStart(8)} ms  ${instance}  ${attachment}${why}`;
}

const toned = (good: boolean, text: string): string => (good ? text : paint('red', text));

function spread(left: string, right: string, columns: number): string {
  const gap = columns - left.length - right.length;
  return gap < 2 ? paint('bold', cut(left, columns)) : `${paint('bold', left)}${' '.repeat(gap)}${paint('dim', right)}`;
}

/** What comes from others (names, messages) may have control characters: none gets to the terminal. */
function cut(text: string, columns: number): string {
  const safe = text.replace(/\p{Cc}/gu, '·');
  return safe.length <= columns ? safe : `${safe.slice(0, Math.max(0, columns - 1))}…`;
}
