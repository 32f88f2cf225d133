/**
 * After a power cut the journal and the snapshots agree: nothing that was told is lost, and recover ends all that was under way. One boot
 * works on three disks while all that is written to them is noted; each cut is a point in those notes; and one boot more recovers on all
 * the disks that the cuts have left. `node test/vm/power/main.ts [CUTS] [SEED]`: how many for each layout.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { ensureImage } from '../rig/image.ts';
import { runInMachine } from '../rig/machine.ts';
import { type Cut, type Found, hear, LAYOUTS, type Layout, PLACES, type Place, TOLD_AT, type Told } from './model.ts';
import { type Entry, WriteLog } from './write-log.ts';

const NODE = 'node_modules/node/bin/node';
const DISK_BYTES = 3 * 2 ** 30;
const OPERATIONS = 80;
const TIMEOUT_MS = 60 * 60_000;
const SECTOR = 512;
const NAMES = {
  pool: 'a pool that shiftvol made, the journal beside it on ext4',
  xfs: 'journal and snapshots on one XFS',
  btrfs: 'journal and snapshots on one btrfs',
} as const satisfies Record<Layout, string>;

const [cuts = 7, seed = Date.now() % 100_000] = process.argv.slice(2).map(Number);
const chance = random(seed);
console.log(`▶ after a power cut: ${cuts} a layout, seed ${seed}`);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(130));
const dir = mkdtempSync(join(tmpdir(), 'shiftvol-power-'));
process.once('exit', () => rmSync(dir, { recursive: true, force: true }));
const image = await ensureImage(words => console.error(words));
await work();
const made = LAYOUTS.flatMap(layout => cut(layout));
const found = await look(made);
for (const [i, { cut: what, where }] of made.entries()) {
  const { recovered, leftovers, ms, wrong } = found[i] ?? {
    recovered: [],
    leftovers: [],
    ms: 0,
    wrong: ['was not looked at'],
  };
  const ok = wrong.length === 0;
  console.log(
    `  ${ok ? '✔' : '✖'} ${NAMES[what.layout]}: ${where}; ${ms} ms to ${recovered.join(', ') || 'nothing'}; ${leftovers.length === 0 ? 'nothing unknown' : `told as unknown: ${leftovers.join('; ')}`}`,
  );
  for (const each of wrong) console.log(`      ${each}`);
  if (!ok) process.exitCode = 1;
}

/** All three layouts, in one boot. */
async function work(): Promise<void> {
  const disks = LAYOUTS.map(layout => ({ file: blank(join(dir, layout)), log: join(dir, `${layout}.log`) }));
  for (const { log } of disks) writeFileSync(log, '');
  const burst = (layout: Layout, i: number) => `${NODE} test/vm/power/burst.ts ${layout} ${deviceOf(i)} ${OPERATIONS}`;
  const command = ['bash', '-c', LAYOUTS.map(burst).join(' && ')];
  const status = await runInMachine(image, { command, disks, env: { SHIFTVOL_VM: '1' }, timeoutMs: TIMEOUT_MS });
  if (status !== 0) throw new Error(`The work that was to be cut ended with ${status}`);
  for (const { file } of disks) rmSync(file);
}

type Made = { readonly file: string; readonly cut: Omit<Cut, 'device'>; readonly where: string };

function cut(layout: Layout): readonly Made[] {
  using log = new WriteLog(join(dir, `${layout}.log`));
  const told = log.entries.flatMap((entry, index) => {
    const said = toldBy(log, entry);
    return said === undefined ? [] : [{ index, said }];
  });
  const ready = told.findIndex(({ said }) => said.told === 'ready');
  const first = told[ready]?.index ?? log.entries.length;
  const answers = told.slice(ready).filter(({ said }) => said.told === 'done' || said.told === 'wrote');
  return Array.from({ length: cuts }, (_, number) => {
    // As soon as something was told is when most of it may not be on the disk yet; and any moment at all.
    const answer = number % 2 === 0 ? answers[Math.floor(chance() * answers.length)] : undefined;
    const count = (answer?.index ?? first + Math.floor(chance() * (log.entries.length - first))) + 1;
    const file = blank(join(dir, `${layout}-${number}`));
    const lucks = {
      none: () => 0,
      some: (sectors: number) => Math.floor(chance() * (sectors + 1)),
      all: (sectors: number) => sectors,
    };
    const luck = (['none', 'some', 'all'] as const)[Math.floor(chance() * 3)] ?? 'none';
    const lost = log.replay(count, file, lucks[luck]);
    const places = placesAfter(
      told.flatMap(({ index, said }) => (index < count && said.told !== 'ready' ? [said] : [])),
    );
    const underWay = places.filter(place => place.asked !== undefined).length;
    const where = `after ${count} of ${log.entries.length} writes, ${answer ? 'just told' : 'at random'}, ${underWay} under way, ${lost} unflushed lost (${luck} kept)`;
    return { file, cut: { layout, places }, where };
  });
}

function toldBy(log: WriteLog, entry: Entry): Told | undefined {
  if (entry.sector !== (DISK_BYTES - TOLD_AT.fromEnd) / SECTOR) return undefined;
  return JSON.parse(log.data(entry).toString('utf8').replace(/\0+$/, '')) as Told;
}

function placesAfter(told: readonly Exclude<Told, { told: 'ready' }>[]): readonly Place[] {
  return PLACES.map(place => told.filter(each => each.place === place.name).reduce(hear, place));
}

/** All that the cuts have left, in one boot. */
async function look(all: readonly Made[]): Promise<readonly Found[]> {
  const given = all.map((each, i): Cut => ({ ...each.cut, device: deviceOf(i) }));
  const stdout = new PassThrough();
  const heard = text(stdout);
  const status = await runInMachine(image, {
    command: [NODE, 'test/vm/power/look.ts', JSON.stringify(given)],
    disks: all.map(({ file }) => ({ file })),
    env: { SHIFTVOL_VM: '1' },
    timeoutMs: TIMEOUT_MS,
    stdout,
  });
  stdout.end();
  if (status !== 0) throw new Error(`Looking at what the cuts have left ended with ${status}: ${await heard}`);
  return (await heard)
    .split('\n')
    .filter(Boolean)
    .map(line => JSON.parse(line) as Found);
}

function blank(path: string): string {
  writeFileSync(path, '');
  truncateSync(path, DISK_BYTES);
  return path;
}

function deviceOf(number: number): string {
  return `/dev/vd${String.fromCharCode('c'.charCodeAt(0) + number)}`;
}

/** With a seed, so that the choice can be had again. */
function random(from: number): () => number {
  let state = from;
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return state / 0x7fffffff;
  };
}
