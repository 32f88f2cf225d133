/** In the machine: recovers on each disk that a cut has left, and holds what it finds against what was told. argv: the cuts in JSON. A line a cut. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '../../../src/cli/assemble.ts';
import { explain } from '../../../src/errors.ts';
import { layout as layoutOf } from '../../../src/storage/layout.ts';
import { requireMachine, run } from '../guest.ts';
import { idOf, mountDisk, openHost, type Paths, pathsOf, RECORDS, record } from './disk.ts';
import { type Cut, type Found, mayBe, type Place } from './model.ts';

const LOOK = '/tmp/look';

requireMachine();
mkdirSync(LOOK);
for (const cut of JSON.parse(process.argv[2] ?? '') as readonly Cut[]) {
  // All disks of one layout have the same btrfs on them, and the kernel keeps the newest that it has seen.
  if (cut.layout === 'btrfs') run('btrfs', 'device', 'scan', '--forget');
  console.log(JSON.stringify(await look(cut).catch(broken)));
}

function broken(error: unknown): Found {
  return { recovered: [], leftovers: [], ms: 0, wrong: [explain(error)] };
}

async function look({ device, layout, places }: Cut): Promise<Found> {
  using _disk = mountDisk(device);
  const paths = pathsOf(layout);
  await using host = await openHost(paths);
  const signal = new AbortController().signal;
  const began = performance.now();
  const first = await host.engine.recover({ dryRun: false, signal });
  const ms = Math.round(performance.now() - began);
  const second = await host.engine.recover({ dryRun: false, signal });

  const wrong = [...first.attachments, ...second.attachments]
    .filter(({ did }) => did === 'left')
    .map(({ attachment, error }) => `recover left ${attachment}: ${error?.message}`);
  if (second.attachments.length + second.tasks.length > 0)
    wrong.push(`a second recover found ${JSON.stringify([second.attachments, second.tasks])}`);
  const told = new Set(first.leftovers.map(leftover => leftover.what));
  wrong.push(...unknownSnapshots(host, paths, told));
  wrong.push(
    ...places.flatMap(place => {
      const text = wrongWith(host, paths, place);
      return text === undefined ? [] : [`${text}; told was ${JSON.stringify(place)}`];
    }),
  );
  const recovered = first.attachments.map(({ was, did }) => `${was}: ${did}`);
  return { recovered, leftovers: [...told].map(name => whose(name, places)), ms, wrong };
}

function whose(snapshot: string, places: readonly Place[]): string {
  const place = places.find(({ name }) => snapshot.endsWith(`/${idOf(name)}`));
  return place === undefined
    ? snapshot
    : `${place.state}${place.asked === undefined ? '' : `, ${place.asked} under way`}`;
}

function unknownSnapshots(host: Host, { poolDir }: Paths, told: ReadonlySet<string>): readonly string[] {
  const known = new Set(host.engine.list().map(({ plan }) => plan.snapshot));
  return run('find', layoutOf(poolDir).snapshots, '-type', 'f', '-printf', '%P\n')
    .split('\n')
    .filter(name => name !== '' && !known.has(name) && !told.has(name))
    .map(name => `snapshot ${name} is neither in the journal nor told`);
}

/** Undefined: it is what was told, and has all the records that were told to be on the disk. */
function wrongWith(host: Host, paths: Paths, place: Place): string | undefined {
  const attachment = host.engine.list().find(({ plan }) => plan.id === idOf(place.name));
  const state = attachment?.status.state ?? 'none';
  if (!mayBe(place).some(each => each === state)) return `it is ${state}`;
  if (attachment === undefined) return undefined;
  const { mountPath, image } = attachment.plan;
  const found = state === 'attached' ? readRecords(mountPath, place.life) : readDetached(image.path, paths, place.life);
  if (typeof found === 'string') return found;
  return found < place.records ? `it is ${state} and has ${found} records` : undefined;
}

/** Of a copy: looking changes nothing. */
function readDetached(image: string, { poolDir }: Paths, life: number): number | string {
  const copy = join(poolDir, 'looked-at');
  run('cp', '--reflink=always', image, copy);
  run('mount', '-o', 'loop', copy, LOOK);
  try {
    return readRecords(LOOK, life);
  } finally {
    run('umount', LOOK);
    rmSync(copy);
  }
}

/** How many there are, one after the other; what comes after them was never told. */
function readRecords(directory: string, life: number): number | string {
  const data = readFileSync(join(directory, RECORDS));
  const { length } = record(life, 1);
  let count = 0;
  while (data.subarray(count * length, (count + 1) * length).equals(record(life, count + 1))) count++;
  const other = /^life (\d+) /.exec(data.subarray(0, 20).toString());
  return other && Number(other[1]) !== life ? `it has the records of life ${other[1]}` : count;
}
