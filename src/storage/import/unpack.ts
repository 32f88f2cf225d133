/**
 * The way of a tar file into tar: read, unpacked and counted. What a file unpacks to says nothing of its own size: a few MiB may hold
 * terabytes, or one header that says it is as large as the memory.
 */
import { createReadStream } from 'node:fs';
import { basename } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { ShiftvolError } from '../../errors.ts';
import { startTool } from '../tool.ts';
import type { SourceKind } from './request.ts';

export type TarSource = Extract<SourceKind, { kind: 'tar' }>;
export type UnpackOptions = {
  readonly signal: AbortSignal;
  /** Of what comes out. */
  readonly limitBytes: number;
  /** Gets the file as it is read. */
  readonly onRead?: (chunk: Buffer) => void;
};

/** For tar, which reads a header as large as it says it is, and for what unpacks: xz takes the size of its window from the file. */
export const MOST_MEMORY_BYTES = 2 ** 30;

/** Headers of small files are larger than what they become on the disk. */
export function unpackedLimit(imageBytes: number): number {
  return 2 * imageBytes + 64 * 2 ** 20;
}

/** Everything that is under way then, for `together`. All of the file is read. @throws SV_NO_SPACE: more came out; SV_TOOL */
export function unpackInto(
  sink: Writable,
  source: TarSource,
  { signal, limitBytes, onRead = () => {} }: UnpackOptions,
): readonly Promise<unknown>[] {
  const file = createReadStream(source.path, { highWaterMark: 2 ** 18 });
  let bytes = 0;
  const count = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes > limitBytes) throw tooMuch(source.path, limitBytes);
  };
  const both = (chunk: Buffer): void => {
    onRead(chunk);
    count(chunk);
  };
  if (source.compression === 'none') return [feed(file, sink, both, signal)];
  // Each of them is called as its compression is, and takes these.
  const options = { signal, input: true, output: true, maxMemoryBytes: MOST_MEMORY_BYTES };
  const tool = startTool(source.compression, ['-d', '-c'], options);
  const { stdin, stdout } = tool;
  if (stdin === null || stdout === null) return [tool.done];
  return [feed(file, stdin, onRead, signal), feed(stdout, sink, count, signal), tool.done];
}

/**
 * Reads all of the input, also what comes after the archive's end, when tar may have gone already: the sha256 is that of the whole file,
 * and a program that writes the input must not find its pipe broken. How tar ended is told by tar.
 */
export async function feed(
  input: Readable,
  sink: Writable,
  onChunk: (chunk: Buffer) => void,
  signal: AbortSignal,
): Promise<void> {
  const { promise: gone, resolve } = Promise.withResolvers<void>();
  sink.once('close', resolve).once('error', resolve);
  for await (const chunk of input as AsyncIterable<Buffer>) {
    signal.throwIfAborted();
    onChunk(chunk);
    if (sink.writable && !sink.write(chunk))
      await Promise.race([new Promise(drained => sink.once('drain', drained)), gone]);
  }
  sink.end();
}

/**
 * Programs with pipes between them: one failing must end the others, or they wait for ever at their ends. Resolves when all have ended.
 * @throws what the first failed with that says something of its own; the outer signal's reason
 */
export async function together(
  outer: AbortSignal | undefined,
  start: (signal: AbortSignal) => readonly (Promise<unknown> | undefined)[],
): Promise<void> {
  const stop = new AbortController();
  const failures: unknown[] = [];
  const noteFailure = (error: unknown): void => {
    failures.push(error);
    stop.abort();
  };
  const parts = start(outer ? AbortSignal.any([outer, stop.signal]) : stop.signal);
  await Promise.all(parts.map(part => part?.catch(noteFailure)));
  outer?.throwIfAborted();
  const told = failures.find(e => e instanceof ShiftvolError) ?? failures[0];
  if (told !== undefined) throw told;
}

function tooMuch(path: string, limitBytes: number): ShiftvolError {
  return new ShiftvolError(
    'SV_NO_SPACE',
    `Cannot import ${basename(path)}: it unpacks to more than ${limitBytes} bytes, which an image of that size or the pool cannot hold`,
    {
      field: 'from',
      remedy: 'give a larger --size where the pool has room for it, or "shiftvol pool grow --size SIZE"',
    },
  );
}
