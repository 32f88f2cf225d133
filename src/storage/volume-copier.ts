/** Copies volumes, byte for byte, from where nobody writes to where nothing is. */
import { constants, fdatasync, read, write } from 'node:fs';
import { promisify } from 'node:util';
import type { ImageRef } from '../engine/ports.ts';
import type { VolumeCopier } from '../engine/volume-ports.ts';
import { ShiftvolError } from '../errors.ts';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { type Fd, open } from '../kernel/fd.ts';
import { fileExtents } from '../kernel/fiemap.ts';
import { O_SUSPICIOUS } from '../kernel/file-lock.ts';
import { isBlank } from './connect/blank.ts';
import { sparseChunks } from './import/copy.ts';

/** Of Node's, and in no library of types that we use. */
declare const WebAssembly: {
  readonly Memory: new (pages: {
    readonly initial: number;
    readonly maximum: number;
  }) => { readonly buffer: ArrayBuffer };
};

const CHUNK = 2 ** 20;
const ZEROS = Buffer.alloc(CHUNK);
const readAsync = promisify(read);
const writeAsync = promisify(write);
const fdatasyncAsync = promisify(fdatasync);

export const volumeCopier: VolumeCopier = {
  isBlank: async ({ path }, signal) => await isBlank(path, signal),

  async bytesToRead({ kind, path }, sizeBytes) {
    if (kind === 'device') return sizeBytes;
    using file = open(path, constants.O_RDONLY | O_SUSPICIOUS);
    return dataOf(file.fd, path) ?? sizeBytes;
  },

  async copy(from, to, { sizeBytes, toBytes, signal }) {
    using source = openSource(from);
    using target = openTarget(to);
    const chunks =
      from.kind === 'file'
        ? sparseChunks(source.fd, from.path, sizeBytes, signal)
        : deviceChunks(source.fd, from.path, sizeBytes, signal);
    /** Where `isBlank` looks. */
    const ends: Placed[] = [];
    try {
      let at = 0;
      for await (const chunk of chunks) {
        if (at === 0 || at + chunk.length > toBytes - CHUNK) ends.push({ at, chunk: Buffer.from(chunk) });
        else await put(target.fd, chunk, at);
        at += chunk.length;
      }
      await fdatasyncAsync(target.fd);
    } catch (error) {
      throw told(error, to);
    }
    return { complete: () => complete(to, ends) };
  },
};

type Placed = { readonly at: number; readonly chunk: Buffer };

async function complete(to: ImageRef, ends: readonly Placed[]): Promise<void> {
  using target = openTarget(to);
  try {
    for (const { at, chunk } of ends) await put(target.fd, chunk, at);
    await fdatasyncAsync(target.fd);
  } catch (error) {
    throw told(error, to);
  }
}

/** A device is read from its disk: the kernel's cache of a device knows nothing of what a file system on it wrote since. */
function openSource({ kind, path }: ImageRef) {
  return open(path, constants.O_RDONLY | (kind === 'device' ? constants.O_DIRECT : O_SUSPICIOUS));
}

/** O_EXCL on a device: the kernel refuses one that anybody uses. */
function openTarget({ kind, path }: ImageRef) {
  return open(path, constants.O_RDWR | (kind === 'device' ? constants.O_EXCL : O_SUSPICIOUS));
}

/** The buffer is the same each time. */
async function* deviceChunks(
  fd: Fd,
  path: string,
  sizeBytes: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  // O_DIRECT wants memory that begins with a page; the memory of WebAssembly does.
  const buffer = Buffer.from(new WebAssembly.Memory({ initial: CHUNK / 65536, maximum: CHUNK / 65536 }).buffer);
  for (let at = 0; at < sizeBytes; at += CHUNK) {
    signal?.throwIfAborted();
    const wanted = Math.min(CHUNK, sizeBytes - at);
    const { bytesRead } = await readAsync(fd, buffer, 0, wanted, at);
    if (bytesRead !== wanted)
      throw new ShiftvolError('SV_CONNECTION', `Cannot read ${path}: ${bytesRead} of ${wanted} bytes came at ${at}`);
    yield buffer.subarray(0, wanted);
  }
}

/** Zeros are written only over something else: what is thin stays thin. */
async function put(fd: Fd, chunk: Buffer, at: number): Promise<void> {
  if (chunk.equals(ZEROS.subarray(0, chunk.length))) {
    const there = Buffer.alloc(chunk.length, 0xff);
    let have = 0;
    while (have < there.length) {
      const { bytesRead } = await readAsync(fd, there, have, there.length - have, at + have);
      if (bytesRead === 0) break;
      have += bytesRead;
    }
    if (there.equals(chunk)) return;
  }
  for (let done = 0; done < chunk.length; )
    done += (await writeAsync(fd, chunk, done, chunk.length - done, at + done)).bytesWritten;
}

/** Undefined where its file system does not tell. */
function dataOf(fd: Fd, path: string): number | undefined {
  try {
    return [...fileExtents(fd, path)].reduce((sum, { count, unwritten }) => sum + (unwritten ? 0 : count), 0);
  } catch (error) {
    if (isErrno(error, 'ENOTSUP', 'EOPNOTSUPP', 'ENOTTY', 'EINVAL', 'EBADR')) return undefined;
    throw error;
  }
}

function told(error: unknown, { path }: ImageRef): unknown {
  if (!isNodeErrno(error, 'ENOSPC', 'EDQUOT')) return error;
  return new ShiftvolError('SV_NO_SPACE', `Cannot write ${path}: the storage is full`, { cause: error });
}
