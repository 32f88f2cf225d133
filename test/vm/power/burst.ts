/** In the machine: attaches, writes and detaches on one disk, and tells of it. argv: LAYOUT DEVICE OPERATIONS */
import { closeSync, constants, fdatasyncSync, openSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Host } from '../../../src/cli/assemble.ts';
import type { Command } from '../../../src/engine/model.ts';
import { importTemplate } from '../../../src/storage/import/import.ts';
import { createPool } from '../../../src/storage/pool.ts';
import { requireMachine, run } from '../guest.ts';
import { idOf, mountDisk, openHost, pathsOf, RECORDS, record, TEMPLATE } from './disk.ts';
import { type Action, hear, LAYOUTS, PLACES, type Place, TOLD_AT, type Told } from './model.ts';

/** Node has it; the types of Node do not. */
declare const WebAssembly: {
  readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
};

const TEMPLATE_BYTES = 48 * 2 ** 20;
const POOL_BYTES = 2 ** 30;
const SIGNAL = new AbortController().signal;

requireMachine();
const [, , name, device = '', operations] = process.argv;
const layout = LAYOUTS.find(each => each === name) ?? 'pool';
const paths = pathsOf(layout);
const sizeBytes = Number(run('blockdev', '--getsize64', device));
/** O_DIRECT: it is on its way when the call returns, and no flush is asked for. It wants memory that begins with a page. */
const board = openSync(device, constants.O_WRONLY | constants.O_DIRECT);
const sheet = Buffer.from(new WebAssembly.Memory({ initial: 1 }).buffer, 0, TOLD_AT.bytes);
let left = Number(operations);

makeFileSystem();
using _disk = mountDisk(device);
if (layout === 'pool') await createPool(paths, { sizeBytes: POOL_BYTES });
const tree = `/tmp/tree-${layout}`;
await mkdir(tree);
// The machine's root has no id in the map to make files with; those that are there he can write to.
closeSync(openSync(join(tree, RECORDS), 'w'));
await importTemplate(paths, { name: TEMPLATE, from: tree, fsType: 'ext4', idBase: 0, sizeBytes: TEMPLATE_BYTES });
tell({ told: 'ready' });
{
  await using host = await openHost(paths);
  await Promise.all(PLACES.map(place => live(host, place)));
}

function makeFileSystem(): void {
  const bytes = sizeBytes - TOLD_AT.fromEnd;
  if (layout === 'pool') run('mke2fs', '-q', '-t', 'ext4', device, `${bytes / 1024}k`);
  else if (layout === 'xfs') run('mkfs.xfs', '-q', '-d', `size=${bytes}`, device);
  else run('mkfs.btrfs', '-q', '-b', String(bytes), device);
}

function tell(told: Told): void {
  sheet.fill(0).write(JSON.stringify(told));
  writeSync(board, sheet, 0, sheet.length, sizeBytes - TOLD_AT.fromEnd);
}

async function live(host: Host, start: Place): Promise<void> {
  let place = start;
  const heard = (told: Exclude<Told, { told: 'ready' }>): void => {
    tell(told);
    place = hear(place, told);
  };
  while (left-- > 0) {
    const action = next(place);
    heard({ told: 'asked', place: place.name, action });
    await host.engine.execute(commandOf(place, action), SIGNAL);
    heard({ told: 'done', place: place.name, action });
    if (place.state === 'attached') write(host, place, () => heard({ told: 'wrote', place: place.name }));
  }
}

function next({ state }: Place): Action {
  if (state === 'none') return 'attach';
  const chance = Math.random();
  if (state === 'detached') return chance < 0.7 ? 'attach' : 'destroy';
  return chance < 0.7 ? 'detach' : 'destroy';
}

function commandOf({ name: place }: Place, action: Action): Command {
  const [ref = '', target = ''] = place.split(':');
  // What the bus asks has an id, and is answered when it is on the disk; what a person asks has none.
  const asked = { instance: { ref }, target, ...(Math.random() < 0.5 && { requestId: crypto.randomUUID() }) };
  return action === 'attach'
    ? { ...asked, action, source: { kind: 'template', template: TEMPLATE }, readOnly: false }
    : { ...asked, action, lazy: false };
}

function write(host: Host, { name: place, life, records }: Place, wrote: () => void): void {
  const plan = host.engine.list().find(attachment => attachment.plan.id === idOf(place))?.plan;
  const file = openSync(join(plan?.mountPath ?? '', RECORDS), 'r+');
  try {
    const end = records + 1 + Math.floor(Math.random() * 2);
    for (let number = records + 1; number <= end; number++) {
      const data = record(life, number);
      writeSync(file, data, 0, data.length, (number - 1) * data.length);
      fdatasyncSync(file);
      wrote();
    }
  } finally {
    closeSync(file);
  }
}
