/** Copies bytes into an image so that they lie in one piece, and takes their sha256. */
import { createHash, type Hash } from 'node:crypto';
import { constants, fsyncSync, ftruncateSync, read, write } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ShiftvolError } from '../../errors.ts';
import { isErrno, isNodeErrno } from '../../kernel/errno.ts';
import { fallocate, punchHole } from '../../kernel/fallocate.ts';
import { type Fd, open } from '../../kernel/fd.ts';
import { fileExtents } from '../../kernel/fiemap.ts';

export type OnProgress = (doneBytes: number, totalBytes: number) => void;
export type CopyOptions = { readonly signal?: AbortSignal | undefined; readonly onProgress: OnProgress };

/**
 * What is zero for this long stays a hole; shorter runs are written, since each hole between data is one extent more, and a snapshot
 * costs by extents.
 */
const CHUNK = 2 ** 20;
const ZEROS = Buffer.alloc(CHUNK);
/** FICLONE and loop devices want whole blocks. */
const BLOCK = 4096;

const readAsync = promisify(read);
const writeAsync = promisify(write);

/**
 * Copies `sizeBytes` of a file or device to `to`, which is made: reserved whole first, for one contiguous place, written where there
 * is data, and what was not written is given back. Returns the
 * sha256 of what was read where `hash` asks for it: without, holes are not even read.
 * @throws SV_NO_SPACE; SV_VOLUME_IN_USE: a device that is mounted; SV_IMAGE_REFUSED: the source is shorter than it was
 */
export async function copyInto(
  from: string,
  to: string,
  sizeBytes: number,
  options: CopyOptions & { readonly device?: boolean; readonly hash: boolean },
): Promise<string | undefined> {
  using source = openSource(from, options.device ?? false);
  using target = await createImage(to, sizeBytes);
  const hash = options.hash ? createHash('sha256') : undefined;
  try {
    await copyChunks(source.fd, target.fd, from, sizeBytes, hash, options);
    await releaseUnwritten(target.fd, to);
    fsyncSync(target.fd);
  } catch (error) {
    throw noSpace(error, to);
  }
  return hash?.digest('hex');
}

/** A file of this size, rounded up to whole blocks and reserved where there is room for all of it. The caller owns it. */
export async function createImage(path: string, sizeBytes: number) {
  const file = open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  const size = Math.ceil(sizeBytes / BLOCK) * BLOCK;
  try {
    ftruncateSync(file.fd, size);
    await fallocate(file.fd, 0, size, path);
  } catch (error) {
    // A sparse image may still fit: then it is written without a reservation, and only its data must.
    if (!isErrno(error, 'ENOSPC', 'ENOTSUP', 'EOPNOTSUPP')) {
      file[Symbol.dispose]();
      throw error;
    }
  }
  return file;
}

/** Gives back what was reserved and never written. It reads as zeros before and after. */
export async function releaseUnwritten(fd: Fd, object: string): Promise<void> {
  const unwritten = [...fileExtents(fd, object)].filter(extent => extent.unwritten);
  for (const { start, count } of unwritten) await punchHole(fd, start, count, object);
}

/** Of the first `sizeBytes` of a file. Holes are not read: they are the greater part of most images. @throws SV_IMAGE_REFUSED: it is shorter */
export async function sha256Of(path: string, sizeBytes: number, { signal, onProgress }: CopyOptions): Promise<string> {
  using file = open(path, constants.O_RDONLY);
  const hash = createHash('sha256');
  const hasData = chunksWithData(file.fd, path);
  const buffer = Buffer.alloc(CHUNK);
  for (let at = 0; at < sizeBytes; at += CHUNK) {
    signal?.throwIfAborted();
    const wanted = Math.min(CHUNK, sizeBytes - at);
    const hole = !hasData(at / CHUNK);
    if (!hole) await readAll(file.fd, buffer, wanted, at, path);
    hash.update((hole ? ZEROS : buffer).subarray(0, wanted));
    // Hashing is on this thread: let others have their turn where no read did.
    if (hole && at % (64 * CHUNK) === 0) await turn();
    onProgress(at + wanted, sizeBytes);
  }
  return hash.digest('hex');
}

/**
 * The first `sizeBytes` of a file, a mebibyte at a time. Holes are not read, and come as one and the same buffer of zeros: not to be
 * written to. @throws SV_IMAGE_REFUSED: it is shorter
 */
export async function* sparseChunks(
  fd: Fd,
  name: string,
  sizeBytes: number,
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  const hasData = chunksWithData(fd, name);
  for (let at = 0; at < sizeBytes; at += CHUNK) {
    signal?.throwIfAborted();
    const wanted = Math.min(CHUNK, sizeBytes - at);
    if (!hasData(at / CHUNK)) {
      yield ZEROS.subarray(0, wanted);
      continue;
    }
    const buffer = Buffer.allocUnsafeSlow(wanted);
    await readAll(fd, buffer, wanted, at, name);
    yield buffer;
  }
}

/** ENOSPC in words; anything else as it is. */
export function noSpace(error: unknown, path: string): unknown {
  if (!isErrno(error, 'ENOSPC', 'EDQUOT') && !isNodeErrno(error, 'ENOSPC', 'EDQUOT')) return error;
  return new ShiftvolError('SV_NO_SPACE', `Cannot write ${path}: the pool is full`, {
    remedy: '"shiftvol pool grow --size SIZE", or remove templates',
    cause: error,
  });
}

function openSource(path: string, device: boolean) {
  try {
    // O_EXCL on a block device: the kernel refuses one that is mounted, or that something else holds for itself.
    return open(path, constants.O_RDONLY | (device ? constants.O_EXCL : 0));
  } catch (error) {
    if (!isNodeErrno(error, 'EBUSY')) throw error;
    throw new ShiftvolError(
      'SV_VOLUME_IN_USE',
      `Cannot import ${path}: it is mounted or in use, what changes meanwhile cannot be copied`,
      {
        field: 'from',
        remedy: 'unmount it, or take a snapshot of it and import that',
        cause: error,
      },
    );
  }
}

async function copyChunks(
  from: Fd,
  to: Fd,
  name: string,
  sizeBytes: number,
  hash: Hash | undefined,
  options: CopyOptions,
): Promise<void> {
  const buffer = Buffer.alloc(CHUNK);
  const hasData = hash === undefined ? chunksWithData(from, name) : () => true;
  for (let at = 0; at < sizeBytes; at += CHUNK) {
    options.signal?.throwIfAborted();
    if (!hasData(at / CHUNK)) continue;
    const wanted = Math.min(CHUNK, sizeBytes - at);
    await readAll(from, buffer, wanted, at, name);
    const chunk = buffer.subarray(0, wanted);
    hash?.update(chunk);
    if (!chunk.equals(ZEROS.subarray(0, wanted))) await writeAll(to, chunk, at);
    options.onProgress(at + wanted, sizeBytes);
  }
  options.onProgress(sizeBytes, sizeBytes);
}

/** Which chunks of a file are no holes; all of them where nobody says. */
function chunksWithData(fd: Fd, name: string): (chunk: number) => boolean {
  const chunks = new Set<number>();
  try {
    for (const { start, count, unwritten } of fileExtents(fd, name)) {
      if (unwritten) continue;
      for (let chunk = Math.floor(start / CHUNK); chunk * CHUNK < start + count; chunk++) chunks.add(chunk);
    }
  } catch (error) {
    if (isErrno(error, 'ENOTSUP', 'EOPNOTSUPP', 'ENOTTY', 'EINVAL', 'EBADR')) return () => true;
    throw error;
  }
  return chunk => chunks.has(chunk);
}

async function readAll(fd: Fd, buffer: Buffer, count: number, at: number, name: string): Promise<void> {
  for (let done = 0; done < count; ) {
    const { bytesRead } = await readAsync(fd, buffer, done, count - done, at + done);
    if (bytesRead === 0)
      throw new ShiftvolError(
        'SV_IMAGE_REFUSED',
        `Cannot read ${name}: it ends after ${at + done} bytes, more were there before`,
        { field: 'from' },
      );
    done += bytesRead;
  }
}

async function writeAll(fd: Fd, chunk: Buffer, at: number): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    const { bytesWritten } = await writeAsync(fd, chunk, done, chunk.length - done, at + done);
    done += bytesWritten;
  }
}
