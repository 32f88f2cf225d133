/** How the demo speaks: numbered acts, a line for each thing done with what it took, and what was seen as it is. */
import { paint } from '../../src/cli/output.ts';

export type Row = readonly [name: string, value: string];

export type Show = {
  title(text: string): void;
  act(text: string): void;
  /** `ms`: what it took. */
  done(text: string, ms?: number): void;
  note(text: string): void;
  /** What a program printed, or a few names with values. */
  block(title: string, lines: readonly string[] | readonly Row[]): void;
  bars(rows: readonly { readonly name: string; readonly ms: number }[]): void;
};

const TEXT_WIDTH = 74;
const BAR_WIDTH = 40;

export function makeShow(options: { readonly json: boolean }, write = (line: string) => console.log(line)): Show {
  return options.json ? jsonShow(write) : textShow(write);
}

function textShow(write: (line: string) => void): Show {
  let act = 0;
  return {
    title: text => write(`${paint('bold', text)}`),
    act(text) {
      act++;
      write(`\n${paint(['bold', 'cyan'], `${act}  ${text}`)}`);
    },
    done(text, ms) {
      const took = ms === undefined ? '' : paint('yellow', duration(ms).padStart(10));
      write(`   ${paint('green', '✓')} ${ms === undefined ? text : text.padEnd(TEXT_WIDTH)}${took}`);
    },
    note: text => write(`   ${paint('dim', text)}`),
    block(title, lines) {
      write(`   ${title}`);
      for (const line of columns(lines)) write(`     ${paint('dim', '│')} ${line}`);
    },
    bars(rows) {
      for (const line of barLines(rows)) write(`   ${line}`);
    },
  };
}

function jsonShow(write: (line: string) => void): Show {
  const tell = (event: string, facts: object) => write(JSON.stringify({ event, ...facts }));
  let act = 0;
  return {
    title: text => tell('title', { text }),
    act: text => tell('act', { act: ++act, text }),
    done: (text, ms) => tell('done', { act, text, ...(ms === undefined ? {} : { ms: Math.round(ms * 10) / 10 }) }),
    note: text => tell('note', { act, text }),
    block: (title, lines) => tell('block', { act, title, lines }),
    bars: rows => tell('compare', { act, rows }),
  };
}

/** `0.42 ms`, `12.3 ms`, `450 ms`, `2.31 s`, `1 min 04 s` */
export function duration(ms: number): string {
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 99.95) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(2)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, '0')} s`;
}

/** Names padded to the longest, values beside them; lines as they are. */
export function columns(lines: readonly string[] | readonly Row[]): string[] {
  const width = Math.max(0, ...lines.map(line => (typeof line === 'string' ? 0 : line[0].length)));
  return lines.map(line => (typeof line === 'string' ? line : `${line[0].padEnd(width)}  ${line[1]}`.trimEnd()));
}

/** One bar each, the longest 40 wide; what is too short for one character gets a thin line, never nothing. */
export function barLines(rows: readonly { readonly name: string; readonly ms: number }[]): string[] {
  const name = Math.max(...rows.map(r => r.name.length));
  const longest = Math.max(...rows.map(r => r.ms));
  return rows.map(r => {
    const length = Math.round((r.ms / longest) * BAR_WIDTH);
    const bar = length === 0 ? '▏' : '█'.repeat(length);
    return `${r.name.padEnd(name)}  ${bar} ${duration(r.ms)}`;
  });
}

/** `195 times`, `8.4 times` */
export function times(factor: number): string {
  return `${factor >= 20 ? Math.round(factor) : factor.toFixed(1)} times`;
}
