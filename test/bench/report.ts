/** What the bench prints: a table for people, one JSON document for programs. */
import { styleText } from 'node:util';
import type { Machine } from './machine.ts';
import { median, p99, pairedRatio, round } from './statistics.ts';

/** `ratio` is ours by the peer's where the goal is a factor, and null where it is a sum or an amount. */
export type Row = {
  readonly case: string;
  readonly files: number | null;
  readonly fs: string | null;
  readonly ours_ms: number | null;
  readonly peer: string | null;
  readonly peer_ms: number | null;
  readonly ratio: number | null;
  readonly goal: string | null;
  readonly n: number;
  readonly ours_p99_ms: number | null;
  readonly peer_p99_ms: number | null;
  /** Whether the goal is met; null where there is none. */
  readonly met: boolean | null;
  /** What is no time: memory, CPU, throughput. */
  readonly value: number | null;
  readonly unit: string | null;
};

export type Report = { readonly machine: Machine; readonly rows: readonly Row[] };

const EMPTY = {
  files: null,
  fs: null,
  ours_ms: null,
  peer: null,
  peer_ms: null,
  ratio: null,
  goal: null,
  ours_p99_ms: null,
  peer_p99_ms: null,
  met: null,
  value: null,
  unit: null,
} as const satisfies Partial<Row>;

type Where = { readonly case: string; readonly files?: number; readonly fs?: string };
type Pairs = { readonly ours: readonly number[]; readonly peer: readonly number[]; readonly peerName: string };

/** Times of ours and of a peer, measured in turns. `atMost` is the goal for their ratio. */
export function ratioRow(where: Where, { ours, peer, peerName }: Pairs, atMost?: number): Row {
  const ratio = pairedRatio(ours, peer);
  return {
    ...timesRow(where, ours),
    peer: peerName,
    peer_ms: round(median(peer)),
    peer_p99_ms: round(p99(peer)),
    ratio: round(ratio),
    goal: atMost === undefined ? null : `<= ${atMost}x`,
    met: atMost === undefined ? null : round(ratio) <= atMost,
  };
}

/** A goal in milliseconds on top of the peer's time, or on ours alone where there is no peer. */
export function sumRow(where: Where, pairs: Pairs | { readonly ours: readonly number[] }, atMostMs: number): Row {
  if (!('peer' in pairs)) {
    const row = timesRow(where, pairs.ours);
    return { ...row, goal: `<= ${atMostMs} ms`, met: median(pairs.ours) <= atMostMs };
  }
  const over = median(pairs.ours.map((ms, i) => ms - (pairs.peer[i] ?? Number.NaN)));
  return { ...ratioRow(where, pairs), goal: `<= peer + ${atMostMs} ms`, met: over <= atMostMs };
}

/** An amount that is no time. */
export function valueRow(where: Where, value: number, unit: string, goal?: { text: string; met: boolean }, n = 1): Row {
  return { ...EMPTY, ...where, n, value: round(value), unit, goal: goal?.text ?? null, met: goal?.met ?? null };
}

function timesRow(where: Where, ours: readonly number[]): Row {
  return { ...EMPTY, ...where, n: ours.length, ours_ms: round(median(ours)), ours_p99_ms: round(p99(ours)) };
}

export function toJson(report: Report): string {
  return JSON.stringify(report);
}

const HEAD = ['case', 'files', 'fs', 'ours', 'p99', 'peer', 'its time', 'p99', 'ratio', 'goal', '', 'n'] as const;

/** Columns for a terminal; names to the left, numbers to the right. */
export function toTable({ machine, rows }: Report): string {
  const cells = rows.map(row => [
    row.case,
    row.files === null ? '' : thousands(row.files),
    row.fs ?? '',
    row.value === null ? ms(row.ours_ms) : `${row.value} ${row.unit}`,
    ms(row.ours_p99_ms),
    row.peer ?? '',
    ms(row.peer_ms),
    ms(row.peer_p99_ms),
    row.ratio === null ? '' : `${row.ratio}x`,
    row.goal ?? '',
    row.met === null ? '' : row.met ? 'met' : 'MISSED',
    String(row.n),
  ]);
  const widths = HEAD.map((name, i) => Math.max(name.length, ...cells.map(row => row[i]?.length ?? 0)));
  const right = new Set([1, 3, 4, 6, 7, 8, 11]);
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (right.has(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join('  ');
  const paint = (style: Parameters<typeof styleText>[0], text: string) =>
    styleText(style, text, { stream: process.stdout });
  const body = cells.map((row, i) => {
    const met = rows[i]?.met;
    return met === false ? paint('red', line(row)) : line(row);
  });
  const facts = `${machine.cpu}, ${machine.cpus} CPUs, ${machine.memory_gib} GiB, Linux ${machine.kernel}, Node ${machine.node}; pool on ${machine.disk}`;
  return [paint('dim', facts), '', paint('bold', line(HEAD).trimEnd()), ...body.map(l => l.trimEnd())].join('\n');
}

/** 1k, 50k, 500k; smaller and uneven ones as they are. */
export function thousands(count: number): string {
  return count >= 1000 && count % 1000 === 0 ? `${count / 1000}k` : String(count);
}

function ms(value: number | null): string {
  return value === null ? '' : `${value} ms`;
}
