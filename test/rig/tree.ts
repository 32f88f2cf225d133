/**
 * Trees of many small files, fast: a tar stream is made in memory and extracted by tar. 500,000 files as a directory or a file system
 * image take seconds, not minutes; see the measurement in the commit that brought this file.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, createWriteStream, ftruncateSync, mkdirSync, openSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { FsType } from '../../src/engine/model.ts';
import { mountPrivately, waitUnused } from '../../src/storage/private-mount.ts';
import { run } from './pool.ts';

export type TreeShape = {
  readonly files: number;
  /** Default: 100. */
  readonly bytesEach?: number;
  /** Default: 500. */
  readonly filesPerDirectory?: number;
  /** Default: 1000 for every fourth file, else 0. */
  readonly owner?: (file: number) => number;
};

const BLOCK = 512;

/** The tree as a tar: `d0000/f0`, `d0000/f1`, ... */
export function treeTar(shape: TreeShape): Readable {
  return Readable.from(members(shape), { objectMode: false, highWaterMark: 2 ** 20 });
}

export async function writeTreeTar(path: string, shape: TreeShape): Promise<void> {
  await pipeline(treeTar(shape), createWriteStream(path));
}

/** The directory is made where it does not exist. Needs root for the owners. */
export async function makeTree(directory: string, shape: TreeShape): Promise<void> {
  mkdirSync(directory, { recursive: true });
  await extract(directory, shape, []);
}

/** A file system image that holds the tree; sparse, of `sizeBytes`. Needs root. */
export async function makeTreeImage(
  path: string,
  shape: TreeShape & { readonly fsType: FsType; readonly sizeBytes: number },
): Promise<void> {
  const fd = openSync(path, 'wx', 0o600);
  ftruncateSync(fd, shape.sizeBytes);
  closeSync(fd);
  // The journal comes when the files are there: written without one they take half the time.
  const inodes = `${Math.ceil(shape.files * 1.01) + 4096}`;
  if (shape.fsType === 'ext4')
    run(
      'mke2fs',
      '-q',
      '-F',
      '-t',
      'ext4',
      '-O',
      '^has_journal',
      '-m',
      '0',
      '-N',
      inodes,
      '-E',
      'lazy_itable_init=0',
      path,
    );
  else run(`mkfs.${shape.fsType}`, '-q', path);
  {
    using mount = await mountPrivately(path, { fsType: shape.fsType, readOnly: false });
    await extract('/proc/self/fd/3', shape, [mount.fd]);
  }
  await waitUnused(path);
  if (shape.fsType === 'ext4') run('tune2fs', '-j', path);
}

async function extract(directory: string, shape: TreeShape, inherit: readonly number[]): Promise<void> {
  const tar = spawn('tar', ['--extract', '--file=-', '--numeric-owner', '--same-owner', `--directory=${directory}`], {
    stdio: ['pipe', 'inherit', 'inherit', ...inherit],
  });
  const ended = once(tar, 'close');
  if (tar.stdin) await pipeline(treeTar(shape), tar.stdin);
  const [status] = await ended;
  if (status !== 0) throw new Error(`tar ended with status ${status}`);
}

function* members({ files, bytesEach = 100, filesPerDirectory = 500, owner = ownerOf }: TreeShape): Generator<Buffer> {
  const body = Buffer.alloc(Math.ceil(bytesEach / BLOCK) * BLOCK);
  body.fill('shiftvol ', 0, bytesEach);
  const header = Buffer.alloc(BLOCK);
  let pending: Buffer[] = [];
  for (let file = 0; file < files; file++) {
    const directory = `d${String(Math.floor(file / filesPerDirectory)).padStart(4, '0')}`;
    if (file % filesPerDirectory === 0) pending.push(fill(header, `${directory}/`, '5', 0, 0, 0o755));
    pending.push(fill(header, `${directory}/f${file}`, '0', bytesEach, owner(file), 0o644), body);
    if (file % filesPerDirectory === filesPerDirectory - 1) {
      yield Buffer.concat(pending);
      pending = [];
    }
  }
  yield Buffer.concat([...pending, Buffer.alloc(2 * BLOCK)]);
}

const ownerOf = (file: number): number => (file % 4 === 0 ? 1000 : 0);

/** A ustar header. @see tar(5) */
function fill(scratch: Buffer, name: string, type: '0' | '5', size: number, owner: number, mode: number): Buffer {
  scratch.fill(0);
  const octal = (value: number, at: number, width: number) =>
    scratch.write(value.toString(8).padStart(width - 1, '0'), at, 'latin1');
  scratch.write(name, 0, 'latin1');
  octal(mode, 100, 8);
  octal(owner, 108, 8);
  octal(owner, 116, 8);
  octal(size, 124, 12);
  octal(1_700_000_000, 136, 12);
  scratch.fill(' ', 148, 156);
  scratch.write(type, 156, 'latin1');
  scratch.write('ustar\x0000', 257, 'latin1');
  let sum = 0;
  for (const byte of scratch) sum += byte;
  octal(sum, 148, 7);
  return Buffer.from(scratch);
}
