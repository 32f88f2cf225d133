/** `import`: this process writes into the pool's `incoming/`; the engine then makes an attachment of it. */
import { createReadStream, statSync } from 'node:fs';
import { loadConfig } from '../config/load.ts';
import type { InstanceRef } from '../engine/model.ts';
import type { PreviewStep } from '../engine/preview.ts';
import { isError, ShiftvolError } from '../errors.ts';
import type { AttachmentView } from '../http/view.ts';
import { ByteReader } from '../migrate/byte-reader.ts';
import { readHead } from '../migrate/frame.ts';
import type { Header, Shared } from '../migrate/header.ts';
import { Incoming, listIncoming, type Pool, type Received } from '../migrate/incoming.ts';
import { blocksOf, findTemplate, receiveVolume } from '../migrate/receive.ts';
import { ensurePool } from '../storage/pool.ts';
import { callEngine } from './engine-client.ts';
import type { ImportOptions } from './import.ts';
import { bytes, print, table } from './output.ts';
import { planTable } from './plan-table.ts';
import { type OutcomeView, outcomeText } from './show-outcome.ts';
import { stopOnSignals } from './signals.ts';

/** `waiting`: a pass that is not the last one. */
type Imported =
  | ({ readonly kind: 'attached'; readonly ms: number } & OutcomeView)
  | { readonly kind: 'waiting'; readonly attachment: string; readonly instance: string; readonly target: string };

/** @throws SV_USAGE, SV_MESSAGE, SV_CHECKSUM, SV_TEMPLATE_NOT_FOUND, SV_TARGET_TAKEN, SV_INSTANCE_NOT_FOUND, SV_LOCKED, SV_NO_SPACE */
export async function importVolumes(source: string | undefined, options: ImportOptions): Promise<void> {
  const { poolDir, stateDir } = loadConfig(options);
  const pool = { poolDir };
  using stop = stopOnSignals();
  await ensurePool({ poolDir, stateDir }, stop.signal);
  if (options.received === true && source === undefined) return print(options, waiting(pool), waitingText);
  if (source === undefined)
    throw new ShiftvolError('SV_USAGE', 'Cannot import: no stream is named', {
      field: 'source',
      remedy: 'name a file, or "-"',
    });
  if (options.blocks === true) return print(options, blocksOf(pool, requireId(source)), all => all.join('\n'));
  if (options.abandon === true) return abandon(pool, requireId(source));
  if (options.received === true)
    return print(options, [await takeOverReceived(pool, requireId(source), options)], textOf);
  if (options.dryRun === true) return print(options, await planImport(source, pool, options), planTextOf);
  print(options, await importStream(source, pool, options, stop.signal), textOf);
}

/** Of the first volume: what comes after it is only known when it has been read. */
async function planImport(source: string, pool: Pool, options: ImportOptions): Promise<ImportPlan> {
  const head = await readHead(new ByteReader(openInput(source)));
  if (head === undefined) return { dryRun: true, steps: [] };
  const about = head.kind === 'volume' ? head.header : head.shared;
  const place = `${refOf(about, options).ref}:${about.target}`;
  const mount = {
    step: about.role === 'root' ? 'spawn' : 'attach',
    call: 'as "shiftvol attach --dry-run" says',
    object: place,
  };
  if (head.kind === 'shared') return { dryRun: true, steps: [mount] };
  const { header } = head;
  const here = findTemplate(pool, header.template);
  const import_ = { step: 'template', call: 'import', object: header.template.name };
  const clone = {
    step: 'clone',
    call: 'ioctl(FICLONE)',
    object: `${here?.name ?? header.template.name} -> ${header.attachment}`,
  };
  const write = { step: 'write', call: 'pwrite', object: `${header.attachment} (${bytes(header.sizeBytes)} at most)` };
  const adopt = { step: 'adopt', call: 'link', object: place };
  return { dryRun: true, steps: [...(here ? [] : [import_]), clone, write, ...(header.last ? [adopt, mount] : [])] };
}

type ImportPlan = { readonly dryRun: true; readonly steps: readonly PreviewStep[] };

function planTextOf({ steps }: ImportPlan): string {
  return planTable(steps);
}

function openInput(source: string): AsyncIterable<Buffer> {
  return source === '-' ? process.stdin : createReadStream(source, { highWaterMark: 2 ** 20 });
}

async function importStream(
  source: string,
  pool: Pool,
  options: ImportOptions,
  signal: AbortSignal,
): Promise<readonly Imported[]> {
  const reader = new ByteReader(openInput(source));
  const imported: Imported[] = [];
  for (;;) {
    const head = await readHead(reader);
    if (head === undefined) return imported;
    if (head.kind === 'shared') {
      imported.push(await attachShared(head.shared, options));
      continue;
    }
    const { header } = head;
    using incoming = Incoming.open(pool, header.attachment);
    const received = await receiveVolume(pool, incoming, header, reader, { signal });
    if (header.last) imported.push(await takeOver(incoming, received, options));
    else imported.push(waitingOf(header));
  }
}

/** Asked again after it was cut off, it goes on where that was. */
async function takeOver(
  incoming: Incoming,
  { header, template, image }: Received,
  options: ImportOptions,
): Promise<Imported> {
  const began = performance.now();
  const ref = refOf(header, options);
  const { role, target, readOnly } = header;
  const path = incoming.path(image);
  try {
    await callEngine(options, {
      command: 'adopt',
      instance: ref.ref,
      ...(ref.project !== undefined && { project: ref.project }),
      role,
      target,
      template,
      readOnly,
      image: path,
    });
  } catch (error) {
    if (!isError(error, 'SV_TARGET_TAKEN') || !(await isAdopted(options, ref, target, path))) throw error;
  }
  const source = { kind: 'template', template } as const;
  const outcome = (await callEngine(options, {
    command: 'execute',
    body:
      role === 'root'
        ? { action: 'spawn', instance: ref, source }
        : { action: 'attach', instance: ref, target, source, readOnly },
  })) as OutcomeView;
  incoming.remove();
  return { kind: 'attached', ...outcome, ms: performance.now() - began };
}

/** One file under two names. */
async function isAdopted(
  options: ImportOptions,
  { ref, project }: InstanceRef,
  target: string,
  path: string,
): Promise<boolean> {
  const place = { instance: ref, ...(project !== undefined && { project }), target };
  const [there] = (await callEngine(options, { command: 'show', ...place })) as readonly AttachmentView[];
  const found = there && statSync(there.image, { throwIfNoEntry: false });
  return found !== undefined && found.ino === statSync(path).ino;
}

async function attachShared(shared: Shared, options: ImportOptions): Promise<Imported> {
  const began = performance.now();
  const { role, target, readOnly, volumeId, source } = shared;
  const about = { instance: refOf(shared, options), source, ...(volumeId !== undefined && { volumeId }) };
  const outcome = (await callEngine(options, {
    command: 'execute',
    body: role === 'root' ? { action: 'spawn', ...about } : { action: 'attach', ...about, target, readOnly },
  })) as OutcomeView;
  return { kind: 'attached', ...outcome, ms: performance.now() - began };
}

async function takeOverReceived(pool: Pool, attachment: string, options: ImportOptions): Promise<Imported> {
  using incoming = Incoming.open(pool, attachment);
  const { received } = incoming;
  if (received) return await takeOver(incoming, received, options);
  throw new ShiftvolError('SV_SNAPSHOT_NOT_FOUND', `Cannot take over attachment ${attachment}: it did not come whole`, {
    remedy: `send it again; "shiftvol import --blocks ${attachment}" says what need not be`,
  });
}

function abandon(pool: Pool, attachment: string): void {
  using incoming = Incoming.open(pool, attachment);
  incoming.remove();
}

function refOf({ instance, project }: Pick<Header, 'instance' | 'project'>, options: ImportOptions): InstanceRef {
  const within = options.project ?? project;
  return { ref: options.instance ?? instance, ...(within !== undefined && { project: within }) };
}

type WaitingView = {
  readonly attachment: string;
  readonly whole: boolean;
  readonly instance?: string;
  readonly target?: string;
};

function waiting(pool: Pool): readonly WaitingView[] {
  return listIncoming(pool).map(({ attachment, received }) => ({
    attachment,
    whole: received !== undefined,
    ...(received && { instance: received.header.instance, target: received.header.target }),
  }));
}

function waitingText(all: readonly WaitingView[]): string {
  if (all.length === 0) return 'nothing has arrived that is not taken over';
  const rows = all.map(w => [w.attachment, w.instance ?? '-', w.target ?? '-', w.whole ? 'whole' : 'in part']);
  return table(['ATTACHMENT', 'INSTANCE', 'TARGET', 'ARRIVED'], rows);
}

const waitingOf = ({ attachment, instance, target }: Header): Imported => ({
  kind: 'waiting',
  attachment,
  instance,
  target,
});

function requireId(text: string): string {
  if (/^[0-9a-f]{16}$/.test(text)) return text;
  throw new ShiftvolError(
    'SV_USAGE',
    `Cannot find ${JSON.stringify(text)}: an attachment’s id is accepted, 16 hexadecimal digits`,
    {
      field: 'source',
      remedy: 'see "shiftvol import --received"',
    },
  );
}

function textOf(all: readonly Imported[]): string {
  return all
    .map(one => (one.kind === 'attached' ? outcomeText(one) : `waits for the last pass  ${one.instance}:${one.target}`))
    .join('\n');
}
