import type { Report, Row } from '../../test/bench/report.ts';
import { dot, line, svg, text } from './svg.ts';

const CASE = 'attach, not chown';
/** In milliseconds and files: each axis from its first power of ten on. */
const SECONDS = [10, 100, 1000, 10_000] as const;
const PLOT = { left: 76, right: 560, top: 62, bottom: 296 } as const;
const FS = { ext4: 'ext4', xfs: 'XFS' } as const;

/** What an attach costs as the template grows, beside chown. Both axes are logarithmic, so that 25 ms and 7 s can both be read. */
export function costPicture({ rows, machine }: Report): string {
  const measured = rows.filter(row => row.case === CASE);
  const counts = [...new Set(measured.map(row => row.files ?? 0))].toSorted((a, b) => a - b);
  const x = scale(counts.at(0) ?? 1, counts.at(-1) ?? 1, PLOT.left + 30, PLOT.right - 20);
  const y = scale(SECONDS[0], SECONDS[3], PLOT.bottom, PLOT.top);
  const grid = SECONDS.flatMap(ms => [
    line(
      'line',
      [
        [PLOT.left, y(ms)],
        [PLOT.right, y(ms)],
      ],
      true,
    ),
    text(PLOT.left - 10, y(ms) + 5, ms < 1000 ? `${ms} ms` : `${ms / 1000} s`, {
      anchor: 'end',
      style: 'small',
      ink: 'quiet',
    }),
  ]);
  const along = counts.map(count =>
    text(x(count), PLOT.bottom + 22, count.toLocaleString('en-US'), { anchor: 'middle', style: 'small', ink: 'quiet' }),
  );
  return svg(
    {
      width: 886,
      height: 366,
      title: 'What an attach costs, by the number of files',
      says: Object.keys(FS)
        .map(fs =>
          inWords(
            measured.filter(row => row.fs === fs),
            fs,
          ),
        )
        .join(' '),
    },
    [
      text(20, 32, 'Until the files are there with the right owners, by how many there are', { style: 'strong' }),
      ...grid,
      ...along,
      text((PLOT.left + PLOT.right) / 2, PLOT.bottom + 44, 'files in the template (both axes are logarithmic)', {
        anchor: 'middle',
        style: 'small',
        ink: 'quiet',
      }),
      ...(['ext4', 'xfs'] as const).flatMap(fs =>
        curves(
          measured.filter(row => row.fs === fs),
          fs,
          x,
          y,
        ),
      ),
      text(
        PLOT.right + 24,
        PLOT.bottom + 44,
        `${machine.cpu}, ${machine.cpus} CPUs, Linux ${machine.kernel.split('.').slice(0, 2).join('.')}`,
        { style: 'small', ink: 'quiet' },
      ),
    ],
  );
}

type Scale = (value: number) => number;

function scale(from: number, to: number, start: number, end: number): Scale {
  const span = Math.log10(to) - Math.log10(from);
  return value => Math.round((start + ((Math.log10(value) - Math.log10(from)) / span) * (end - start)) * 10) / 10;
}

/** Ours and chown's, each named beside its last point: XFS, which is the slower one, above ext4. */
function curves(rows: readonly Row[], fs: keyof typeof FS, x: Scale, y: Scale): readonly string[] {
  const of = (ink: 'ours' | 'peer', name: string, value: (row: Row) => number | null) => {
    const points = rows.flatMap(row => {
      const ms = value(row);
      return ms === null ? [] : [[x(row.files ?? 1), y(ms)] as const];
    });
    const [, lastY = 0] = points.at(-1) ?? [];
    const last = rows.at(-1);
    const told = `${name}, ${FS[fs]}: ${((last && value(last)) ?? 0).toLocaleString('en-US')} ms`;
    const beside = fs === 'xfs' ? -6 : 16;
    return [
      line(ink, points, fs === 'xfs'),
      ...points.map(([px, py]) => dot(ink, px, py)),
      text(PLOT.right - 4, lastY + beside, told, { ink }),
    ];
  };
  return [
    ...of('peer', 'copy, mount, chown -R', row => row.peer_ms),
    ...of('ours', 'shiftvol attach', row => row.ours_ms),
  ];
}

function inWords(rows: readonly Row[], fs: string): string {
  return rows.map(row => `${fs}, ${row.files} files: shiftvol ${row.ours_ms} ms, chown ${row.peer_ms} ms.`).join(' ');
}
