import { arrow, box, svg, text } from './svg.ts';

/** Of an instance's range, as in most distributions. */
const COUNT = 65_536;
type Instance = { readonly name: string; readonly base: number };
/** Two that share one template, and no id. */
const INSTANCES: readonly Instance[] = [
  { name: 'web-1', base: 1_000_000 },
  { name: 'web-2', base: 1_000_000 + COUNT },
];
const OWNERS = [
  { disk: 0, name: 'root' },
  { disk: 33, name: 'www-data' },
  { disk: 1000, name: 'a user' },
] as const;
/** Beyond the range: nobody's, in every instance. */
const BEYOND = 70_000;
const NOBODY = 65_534;

/** Left edge and width of each column's boxes. */
const COLUMNS = { disk: [20, 166], host: [336, 180], inside: [666, 180] } as const;
const ROW = 24;
const HEIGHT = 60 + (OWNERS.length + 1) * ROW - 10;
const INDENT = 16;

/** One file, its owner on the disk, on the host and in two containers. */
export function idsPicture(): string {
  const tops = INSTANCES.map((_, i) => 64 + i * (HEIGHT + 26));
  const [first = 0, last = 0] = [tops.at(0), tops.at(-1)];
  const { disk, inside } = COLUMNS;
  return svg(
    {
      width: inside[0] + inside[1] + 20,
      height: last + HEIGHT + 48,
      title: 'What a mapped mount does to owners',
      says: INSTANCES.map(
        ({ name, base }) =>
          `In ${name} a file that user 1000 owns on the disk belongs to user 1000 in the container and to ${base + 1000} on the host.`,
      ).join(' '),
    },
    [
      ...head('disk', 'on the disk', 'one template, many snapshots'),
      ...head('host', 'on the host', 'through this mount'),
      ...head('inside', 'in the container', 'as its processes see it'),
      ...onDisk(first, last + HEIGHT - first),
      ...INSTANCES.flatMap((instance, i) => mapped(instance, tops[i] ?? 0)),
      text(
        disk[0],
        last + HEIGHT + 30,
        'The map belongs to the mount: nothing is written, and when the mount goes, the map is gone. No two instances share an id.',
        { style: 'small', ink: 'quiet' },
      ),
    ],
  );
}

function head(column: keyof typeof COLUMNS, name: string, says: string): readonly string[] {
  const [left] = COLUMNS[column];
  return [
    text(left, 30, name, { style: 'strong', ink: column === 'host' ? 'ours' : 'text' }),
    text(left, 48, says, { style: 'small', ink: 'quiet' }),
  ];
}

function onDisk(top: number, height: number): readonly string[] {
  const [left, width] = COLUMNS.disk;
  const first = top + height / 2 - (OWNERS.length * ROW) / 2 + 6;
  const owners = [...OWNERS, { disk: BEYOND, name: '' }];
  return [
    box(left, top, width, height),
    ...owners.flatMap(({ disk, name }, i) => [
      text(left + INDENT + 44, first + i * ROW, String(disk), { style: 'mono', anchor: 'end' }),
      text(left + INDENT + 58, first + i * ROW, name, { style: 'small', ink: 'quiet' }),
    ]),
  ];
}

function mapped({ name, base }: Instance, top: number): readonly string[] {
  const middle = top + HEIGHT / 2;
  const [host, inside] = [COLUMNS.host[0], COLUMNS.inside[0]];
  const row = (i: number) => top + 54 + i * ROW;
  return [
    box(...at('host', top)),
    box(...at('inside', top)),
    text(host + INDENT, top + 26, `${grouped(base)} to ${grouped(base + COUNT - 1)}`, { style: 'small', ink: 'quiet' }),
    text(inside + INDENT, top + 26, `${name}: 0 to ${grouped(COUNT - 1)}`, { style: 'small', ink: 'quiet' }),
    ...OWNERS.flatMap(({ disk }, i) => [
      text(host + INDENT, row(i), grouped(base + disk), { style: 'mono', ink: 'ours' }),
      text(inside + INDENT, row(i), String(disk), { style: 'mono' }),
    ]),
    text(host + INDENT, row(OWNERS.length), 'none: it is nobody’s', { style: 'small', ink: 'quiet' }),
    text(inside + INDENT, row(OWNERS.length), String(NOBODY), { style: 'mono', ink: 'quiet' }),
    ...between('ours', 'disk', 'host', middle, 'map of the mount', `+ ${grouped(base)}`),
    ...between('line', 'host', 'inside', middle, 'its user namespace', `− ${grouped(base)}`),
  ];
}

function at(column: keyof typeof COLUMNS, top: number): [number, number, number, number] {
  const [left, width] = COLUMNS[column];
  return [left, top, width, HEIGHT];
}

/** An arrow from one column to the next: what does it, and what it adds. */
function between(
  ink: 'ours' | 'line',
  left: keyof typeof COLUMNS,
  right: keyof typeof COLUMNS,
  y: number,
  who: string,
  adds: string,
): readonly string[] {
  const from = COLUMNS[left][0] + COLUMNS[left][1];
  const to = COLUMNS[right][0];
  const middle = (from + to) / 2;
  const colour = ink === 'ours' ? 'ours' : 'quiet';
  return [
    arrow(ink, [from, y], [to, y]),
    text(middle, y - 10, who, { anchor: 'middle', style: 'small' }),
    text(middle, y + 20, adds, { anchor: 'middle', style: 'mono', ink: colour }),
  ];
}

function grouped(value: number): string {
  return value.toLocaleString('en-US');
}
