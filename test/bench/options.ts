import { parseArgs } from 'node:util';

export const CASES = [
  'floor',
  'chown',
  'lxd',
  'bus',
  'concurrency',
  'idle',
  'route',
  'rpc',
  'migrate',
  'page',
  'soak',
] as const;
export type CaseName = (typeof CASES)[number];
export const BENCH_FS = ['ext4', 'xfs'] as const;
export type BenchFs = (typeof BENCH_FS)[number];

export type Options = {
  readonly quick: boolean;
  readonly json: boolean;
  readonly phases: boolean;
  readonly files: readonly number[];
  readonly fs: readonly BenchFs[];
  readonly cases: readonly CaseName[];
  /** Rounds of attach and detach for memory, descriptors and mounts. */
  readonly cycles: number;
  /** Rounds of the small measurements. */
  readonly rounds: number;
};

export const HELP = `npm run bench [-- OPTIONS]     needs root
  --quick             fewer rounds, no 500k files
  --files 1k,50k,500k how many files the templates hold
  --fs ext4,xfs       of the templates
  --case NAME         only this one, may be repeated: ${CASES.join(', ')}
  --rounds N          of each measurement (default 40, quick 10)
  --cycles N          of the soak (default 20000, quick 500)
  --phases            where the time goes, for us and for the bare system calls
  --json              {machine, rows} on stdout, nothing else`;

/** @throws with a text for the user */
export function parseOptions(argv: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      phases: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
      files: { type: 'string' },
      fs: { type: 'string', default: BENCH_FS.join(',') },
      case: { type: 'string', multiple: true, default: [...CASES] },
      rounds: { type: 'string' },
      cycles: { type: 'string' },
    },
  });
  if (values.help) return undefined;
  const { quick, json, phases } = values;
  return {
    quick,
    json,
    phases,
    files: (values.files ?? (quick ? '1k,50k' : '1k,50k,500k'))
      .split(',')
      .map(parseCount)
      .toSorted((a, b) => a - b),
    fs: values.fs.split(',').map(name => oneOf(BENCH_FS, name, 'fs')),
    cases: values.case.map(name => oneOf(CASES, name, 'case')),
    rounds: parseCount(values.rounds ?? (quick ? '10' : '40')),
    cycles: parseCount(values.cycles ?? (quick ? '500' : '20k')),
  };
}

function parseCount(text: string): number {
  const [, digits, k] = /^(\d{1,9})(k?)$/.exec(text) ?? [];
  const count = Number(digits) * (k === 'k' ? 1000 : 1);
  if (!(count > 0)) throw new Error(`Cannot read the number ${JSON.stringify(text)}: accepted are 1, 500, 50k`);
  return count;
}

function oneOf<T extends string>(accepted: readonly T[], name: string, option: string): T {
  const found = accepted.find(one => one === name);
  if (found === undefined)
    throw new Error(`Cannot use --${option} ${JSON.stringify(name)}: accepted are ${accepted.join(', ')}`);
  return found;
}
