/** The receiver's side: a stream becomes an image of the pool, whole or not at all, and a template where this host has none. */
import { constants, fsync, ftruncateSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ShiftvolError } from '../errors.ts';
import { open } from '../kernel/fd.ts';
import { ficloneAsync } from '../kernel/reflink.ts';
import { importTemplate } from '../storage/import/import.ts';
import { layout } from '../storage/layout.ts';
import { listTemplates, type TemplateWithUse } from '../storage/templates.ts';
import type { ByteReader } from './byte-reader.ts';
import { Digest, damaged, type Frame, lengthOf, readFrame } from './frame.ts';
import { type Header, notAStream } from './header.ts';
import type { Incoming, Pool, Received } from './incoming.ts';
import { blocksIn, Partial } from './partial.ts';

const fsyncAsync = promisify(fsync);

export type ReceiveOptions = {
  readonly signal: AbortSignal;
  readonly onProgress?: (receivedBytes: number) => void;
};

/** The template with these contents, whatever its name is here. */
export function findTemplate(
  pool: Pool,
  { sha256, sizeBytes }: Pick<Header['template'], 'sha256' | 'sizeBytes'>,
): TemplateWithUse | undefined {
  return listTemplates(pool).find(t => t.sha256 === sha256 && t.sizeBytes === sizeBytes);
}

/** The blocks that a try that was cut off has left here, for the sender to leave out. */
export function blocksOf({ poolDir }: Pool, attachment: string): readonly string[] {
  const directory = layout(poolDir).incomingDir(attachment);
  return [...blocksIn(join(directory, 'template')), ...blocksIn(join(directory, 'work'))];
}

/**
 * One volume of a stream, whose header has been read. Cut off, or damaged, what has arrived stays for the next try. `incoming` is held
 * by the caller.
 * @throws SV_MESSAGE; SV_CHECKSUM; SV_TEMPLATE_NOT_FOUND: it is needed, and does not come along; SV_SNAPSHOT_NOT_FOUND: so is an earlier
 *   pass; SV_NO_SPACE; what the import of a template throws
 */
export async function receiveVolume(
  pool: Pool,
  incoming: Incoming,
  header: Header,
  reader: ByteReader,
  { signal, onProgress }: ReceiveOptions,
): Promise<Received> {
  const earlier = requireBase(incoming, header);
  const frames = checked(header, reader, signal, onProgress);
  const template = await takeTemplate(pool, incoming, header, frames, signal);
  using work = new Partial(incoming.path('work'), 'volume');
  {
    using from = open(earlier ? incoming.path(earlier.image) : template.path, constants.O_RDONLY);
    await ficloneAsync(work.fd, from.fd, work.path);
  }
  ftruncateSync(work.fd, header.sizeBytes);
  for await (const frame of frames) {
    if (!('offset' in frame)) throw notAStream('a template comes after the volume');
    await work.put(frame);
  }
  await fsyncAsync(work.fd);
  work.forget();
  return incoming.finish(header, template.name);
}

/** The frames up to the end, in order and within the image, and the digest of all of them at the end. */
async function* checked(
  header: Header,
  reader: ByteReader,
  signal: AbortSignal,
  onProgress: ReceiveOptions['onProgress'],
): AsyncGenerator<Exclude<Frame, { kind: 'end' }>> {
  const digest = new Digest(header);
  let [next, size, received] = [0, header.template.included ? header.template.sizeBytes : header.sizeBytes, 0];
  let inTemplate = header.template.included;
  for (;;) {
    signal.throwIfAborted();
    const frame = await readFrame(reader);
    if (frame.kind === 'end') {
      if (inTemplate) throw notAStream('it ends before the volume');
      if (digest.end().equals(frame.digest)) return;
      throw damaged('the digest of the stream is another one');
    }
    digest.update(frame);
    if (frame.kind === 'template') {
      if (!inTemplate) throw notAStream('it has a template that was not announced');
      inTemplate = false;
      [next, size] = [0, header.sizeBytes];
    } else {
      // Rising, so that nobody can have us write the same place for ever.
      if (frame.offset < next || frame.offset + lengthOf(frame) > size)
        throw notAStream(`a block at ${frame.offset} is out of order, or beyond the end`);
      next = frame.offset + lengthOf(frame);
      received += lengthOf(frame);
      onProgress?.(received);
    }
    yield frame;
  }
}

function requireBase(incoming: Incoming, { since }: Header): Received | undefined {
  if (since === undefined) return undefined;
  const { received } = incoming;
  if (received?.header.version === since) return received;
  throw new ShiftvolError(
    'SV_SNAPSHOT_NOT_FOUND',
    `Cannot take over the changes since an earlier pass: ${received ? 'another pass' : 'no pass'} of this volume is here`,
    { remedy: 'export all of it, without --since' },
  );
}

/** Reads up to the end of the template, where it comes along; where it is here already its bytes are read, and not kept. */
async function takeTemplate(
  pool: Pool,
  incoming: Incoming,
  header: Header,
  frames: AsyncGenerator<Exclude<Frame, { kind: 'end' }>>,
  signal: AbortSignal,
): Promise<TemplateWithUse> {
  const wanted = header.template;
  const here = findTemplate(pool, wanted);
  if (!wanted.included) {
    if (here) return here;
    throw new ShiftvolError(
      'SV_TEMPLATE_NOT_FOUND',
      `Cannot take over the volume: it is told as what differs from template "${wanted.name}", and none with its sha256 is here`,
      { field: 'template', remedy: 'export it without --without-template, or import the template first' },
    );
  }
  if (here) {
    await untilTemplateEnds(frames, async () => undefined);
    return here;
  }
  const path = incoming.path('template');
  {
    using image = new Partial(path, 'template');
    ftruncateSync(image.fd, wanted.sizeBytes);
    await untilTemplateEnds(frames, frame => image.put(frame));
  }
  return await importBase(pool, path, wanted, signal);
}

async function untilTemplateEnds(
  frames: AsyncGenerator<Exclude<Frame, { kind: 'end' }>>,
  put: (frame: Extract<Frame, { offset: number }>) => Promise<void>,
): Promise<void> {
  for (;;) {
    const { done, value: frame } = await frames.next();
    if (done === true || frame.kind === 'template') return;
    await put(frame);
  }
}

/** Under its own name, or, where that is another template's, one that has its sha256 in it. */
async function importBase(
  pool: Pool,
  path: string,
  { name: wanted, sha256, idBase }: Header['template'],
  signal: AbortSignal,
): Promise<TemplateWithUse> {
  const isTaken = listTemplates(pool).some(t => t.name === wanted);
  const name = isTaken ? `${wanted.slice(0, 51)}-${sha256.slice(0, 12)}` : wanted;
  const request = { name, from: path, format: 'raw', idBase, sealed: sha256 } as const;
  const { template } = await importTemplate(pool, request, { signal });
  return { ...template, snapshots: 0 };
}
