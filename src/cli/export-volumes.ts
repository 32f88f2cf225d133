/** `export`: this process reads the snapshots itself; the engine makes and removes them. */
import { createWriteStream, existsSync, fsyncSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { loadConfig } from '../config/load.ts';
import type { AttachmentId } from '../engine/model.ts';
import type { Saved } from '../engine/snapshots.ts';
import { ShiftvolError } from '../errors.ts';
import type { AttachmentView } from '../http/view.ts';
import { headerOf } from '../migrate/facts.ts';
import { encodeShared } from '../migrate/frame.ts';
import { FORMAT } from '../migrate/header.ts';
import { type Sent, sendVolume } from '../migrate/send.ts';
import { ensurePool } from '../storage/pool.ts';
import { showTemplate } from '../storage/templates.ts';
import { callEngine } from './engine-client.ts';
import type { ExportOptions } from './export.ts';
import { bytes, print } from './output.ts';
import { stopOnSignals } from './signals.ts';
import { parsePlace } from './volume-argument.ts';

type Exported = { readonly instance: string; readonly target: string; readonly ms: number } & (
  | ({ readonly kind: 'volume'; readonly frozenMs: number } & Sent)
  | { readonly kind: 'shared' }
);
type Work = { readonly options: ExportOptions; readonly out: Writable; readonly signal: AbortSignal };

/** @throws SV_USAGE; SV_ATTACHMENT_NOT_FOUND; SV_IMAGE_REFUSED: not a snapshot of a template */
export async function exportVolumes(text: string, file: string, options: ExportOptions): Promise<void> {
  requireChoice(options);
  const { instance, target } = parsePlace(text);
  const named = { instance, ...(options.project !== undefined && { project: options.project }) };
  const found = (await callEngine(options, { command: 'show', ...named, target })) as readonly AttachmentView[];
  const all = found.toSorted((a, b) => Number(b.role === 'root') - Number(a.role === 'root'));
  for (const view of all) requireExportable(view, options);
  using stop = stopOnSignals();
  const exported: Exported[] = [];
  await writeTo(file, async out => {
    const work = { options, out, signal: stop.signal };
    for (const view of all) exported.push(await (options.shared ? moveShared(view, work) : exportOne(view, work)));
  });
  // Where standard output is the stream, what there is to say goes to the other one.
  if (file === '-') process.stderr.write(`${options.json ? JSON.stringify(exported) : textOf(exported)}\n`);
  else print(options, exported, textOf);
}

async function exportOne(view: AttachmentView, { options, out, signal }: Work): Promise<Exported> {
  const began = performance.now();
  const { poolDir, stateDir } = loadConfig(options);
  await ensurePool({ poolDir, stateDir }, signal);
  const place = { instance: { ref: view.id } };
  await removeLeft(view, options);
  const name = options.keep ?? `${OWN}${process.pid}`;
  const saved = (await callEngine(options, { command: 'snapshot.create', ...place, name })) as Saved;
  await using undo = new AsyncDisposableStack();
  const remove = async () => void (await callEngine(options, { command: 'snapshot.remove', ...place, name }));
  undo.defer(remove);
  const template = showTemplate({ poolDir }, view.source.kind === 'template' ? view.source.template : '');
  const since = options.since === undefined ? undefined : await savedPath(options, view, options.since);
  const withTemplate = options.withoutTemplate !== true && since === undefined;
  const header = headerOf(movingOf(view), template, saved.path, {
    withTemplate,
    ...(since !== undefined && { since }),
    last: options.keep === undefined,
  });
  const has = hasOf(options);
  const stream = { sent: { changedBytes: 0, sentBytes: 0, keptBytes: 0 } };
  const sendable = {
    header,
    image: saved.path,
    before: since ?? template.path,
    ...(withTemplate && { template: template.path }),
  };
  const read = async function* () {
    stream.sent = yield* sendVolume(sendable, { signal, ...(has && { has }) });
  };
  await pipeline(Readable.from(read(), { objectMode: false }), out, { signal, end: false });
  if (options.keep !== undefined) undo.move();
  const { instance, target } = view;
  return { kind: 'volume', instance, target, ...stream.sent, frozenMs: saved.frozenMs, ms: performance.now() - began };
}

const OWN = 'export-';

/** What an export that was killed has left of this attachment. */
async function removeLeft({ id }: AttachmentView, options: ExportOptions): Promise<void> {
  const instance = { ref: id };
  const saved = (await callEngine(options, { command: 'snapshot.list', place: { instance } })) as readonly Saved[];
  for (const { name } of saved) {
    const pid = /^export-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      await callEngine(options, { command: 'snapshot.remove', instance, name });
  }
}

/** First let go of here, then told: a volume that two hosts mount is lost. */
async function moveShared(view: AttachmentView, { options, out, signal }: Work): Promise<Exported> {
  const began = performance.now();
  const { source, role, target, readOnly, volumeId, instance } = view;
  if (source.kind !== 'file' && source.kind !== 'device') throw notExportable(view);
  const moving = movingOf(view);
  const body = { instance: moving.instance, target, lazy: false };
  await callEngine(options, {
    command: 'execute',
    body: role === 'root' ? { action: 'destroy', ...body } : { action: 'detach', ...body },
  });
  const ms = performance.now() - began;
  const shared = encodeShared({
    format: FORMAT,
    instance: moving.instance.ref,
    ...(moving.instance.project !== undefined && { project: moving.instance.project }),
    role,
    target,
    readOnly,
    ...(volumeId !== undefined && { volumeId }),
    source,
  });
  await pipeline(Readable.from([shared]), out, { signal, end: false });
  return { kind: 'shared', instance, target, ms };
}

function movingOf({ id, role, target, readOnly, instance, project }: AttachmentView) {
  // A key of another project has its name in front.
  const ref =
    project === undefined || !instance.startsWith(`${project}/`) ? instance : instance.slice(project.length + 1);
  return {
    id: id as AttachmentId,
    role,
    target,
    readOnly,
    instance: { ref, ...(project !== undefined && { project }) },
  };
}

async function savedPath(options: ExportOptions, { id }: AttachmentView, name: string): Promise<string> {
  const found = (await callEngine(options, { command: 'snapshot.find', instance: { ref: id }, name })) as Saved;
  return found.path;
}

/** A line for each block, as `import --blocks` prints them. */
function hasOf({ has }: ExportOptions): ((block: string) => boolean) | undefined {
  if (has === undefined) return undefined;
  const blocks = new Set(readFileSync(has, 'latin1').split('\n'));
  return block => blocks.has(block);
}

/** A file has its name when it is whole. */
async function writeTo(file: string, work: (out: Writable) => Promise<void>): Promise<void> {
  if (file === '-') {
    if (process.stdout.isTTY) throw usage('Cannot write a stream to a terminal', 'name a file, or pipe it to import');
    return await work(process.stdout);
  }
  if (existsSync(file)) throw usage(`Cannot write ${file}: it is there already`, 'name another file, or remove it');
  const part = `${file}.part`;
  const fd = openSync(part, 'w', 0o600);
  const out = createWriteStream(part, { fd, autoClose: false });
  try {
    await work(out);
    await new Promise<void>(resolve => out.end(resolve));
    fsyncSync(fd);
    renameSync(part, file);
  } catch (error) {
    rmSync(part, { force: true });
    throw error;
  }
}

function requireChoice({ shared, keep, since, has, withoutTemplate }: ExportOptions): void {
  const more = keep !== undefined || since !== undefined || has !== undefined || withoutTemplate !== undefined;
  if (shared === true && more)
    throw usage('Cannot combine --shared with what is about bytes: none are sent', 'leave the other options out');
}

function requireExportable(view: AttachmentView, { shared }: ExportOptions): void {
  const isSettled = view.state === 'attached' || (view.state === 'detached' && !shared);
  const fits = shared ? view.source.kind === 'file' || view.source.kind === 'device' : view.source.kind === 'template';
  if (!isSettled || !fits) throw notExportable(view);
}

function notExportable({ instance, target, source, state }: AttachmentView): ShiftvolError {
  const remedy = {
    template: 'leave --shared out: a snapshot of the pool is sent',
    file: 'give --shared where the other host has the same file; else copy it when it is detached',
    device: 'give --shared where the other host has the same device',
    connection: 'detach it here and attach it there: it is reached from both',
  }[source.kind];
  return new ShiftvolError(
    'SV_IMAGE_REFUSED',
    `Cannot export ${instance}:${target}: it is a ${source.kind === 'template' ? 'snapshot of a template' : source.kind}, ${state}`,
    { field: 'attachment', remedy },
  );
}

function usage(text: string, remedy: string): ShiftvolError {
  return new ShiftvolError('SV_USAGE', text, { remedy });
}

function textOf(all: readonly Exported[]): string {
  return all
    .map(one => {
      const place = `${one.instance}:${one.target}`;
      if (one.kind === 'shared') return `let go  ${place}  ${one.ms.toFixed(1)} ms`;
      const kept = one.keptBytes > 0 ? `, ${bytes(one.keptBytes)} were there` : '';
      return `sent  ${place}  ${bytes(one.changedBytes)} in ${bytes(one.sentBytes)}${kept}  ${one.ms.toFixed(0)} ms, frozen for ${one.frozenMs.toFixed(1)} ms`;
    })
    .join('\n');
}
