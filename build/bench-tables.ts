/** What the bench measured, as tables of Markdown. */
import { type Report, type Row, thousands } from '../test/bench/report.ts';

const START = '<!-- measured: npm run pictures -->';
const END = '<!-- /measured -->';

/** The document with another table between its two marks. @throws where it has none */
export function between(document: string, table: string): string {
  const from = document.indexOf(START);
  const to = document.indexOf(END);
  if (from < 0 || to < from) throw new Error(`Cannot write the table: ${START} and ${END} are not there`);
  return `${document.slice(0, from)}${START}\n${table}\n${document.slice(to)}`;
}

/** Every row but the steps of an attach, whose names are indented. */
export function fullTable({ rows }: Report): string {
  return table(
    ['case', 'files', 'fs', 'ours', 'p99', 'peer', 'its time', 'ratio', 'goal', ''],
    rows
      .filter(row => !row.case.startsWith(' '))
      .map(row => [
        row.case,
        row.files === null ? '' : thousands(row.files),
        row.fs ?? '',
        ours(row),
        ms(row.ours_p99_ms),
        row.peer ?? '',
        ms(row.peer_ms),
        row.ratio === null ? '' : `${row.ratio}x`,
        row.goal ?? '',
        row.met === null ? '' : row.met ? 'met' : 'missed',
      ]),
  );
}

type Line = { readonly says: string; readonly of: (row: Row) => boolean };
const at = (name: string, files: number | null, fs: string | null, peer?: string) => (row: Row) =>
  row.case === name && row.files === files && row.fs === fs && (peer === undefined || row.peer === peer);
/** What a newcomer asks for, the misses among it. */
const LINES: readonly Line[] = [
  { says: 'attach, 1k files', of: at('attach, not chown', 1000, 'ext4') },
  { says: 'attach, 50k files', of: at('attach, not chown', 50_000, 'ext4') },
  { says: 'attach, 500k files', of: at('attach, not chown', 500_000, 'ext4') },
  { says: 'attach, 500k files, XFS', of: at('attach, not chown', 500_000, 'xfs') },
  { says: 'to a host with other ids, 500k files', of: at('shared move, all of it', 500_000, 'ext4', 'fuidshift') },
  { says: 'snapshot, map and mount alone, 500k files', of: at('prepare', 500_000, 'ext4') },
  { says: 'the same of a snapshot that is ready (`spares`)', of: at('prepare, one ready', 500_000, 'ext4') },
  { says: '64 attaches at once', of: at('64 attaches at once', 1000, 'ext4') },
  { says: 'from the notification to the event', of: at('notification to attach.end', 1000, 'ext4') },
  { says: 'the agent at rest', of: at('agent idle: memory', null, null) },
];

/** The few lines of README.md. */
export function costTable({ rows }: Report): string {
  return table(
    ['what', 'shiftvol', 'beside', 'its time', 'goal', ''],
    LINES.map(({ says, of }) => {
      const row = rows.find(of);
      if (row === undefined) throw new Error(`Cannot write the table: the bench has no row for "${says}"`);
      const met = row.met === null ? '' : row.met ? 'met' : 'missed';
      return [says, ours(row), row.peer ?? '', ms(row.peer_ms), row.goal ?? '', met];
    }),
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |`).join('\n');
}

function ours(row: Row): string {
  return row.value === null ? ms(row.ours_ms) : `${grouped(row.value)} ${row.unit}`.trim();
}

function ms(value: number | null): string {
  return value === null ? '' : `${grouped(value)} ms`;
}

/** 6,668 */
function grouped(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 3 });
}
