/**
 * Makes a file system out of a directory or a tar.
 *
 * Owners: the new file system is mounted without a path (nobody else can reach it) and, where an id base is asked for, through a map
 * that shows on-disk id `base + i` as `i`. So tar writes the ids that the source has and they land shifted, with ACLs and file
 * capabilities, which the kernel shifts as well; nothing is chowned afterwards. This is the one place that maps ids to the host's low
 * ones, and it does not go through the guard of instances' mounts: such a mount is never placed.
 */
import { chmodSync, chownSync, closeSync, createReadStream, existsSync, ftruncateSync, openSync } from 'node:fs';
import { basename } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { FsType } from '../../engine/model.ts';
import { ShiftvolError } from '../../errors.ts';
import type { MountFd } from '../../kernel/fd.ts';
import { mountSetIdmap } from '../../kernel/mount.ts';
import { createUserNamespace } from '../../kernel/userns.ts';
import { mountPrivately, waitUnused } from '../private-mount.ts';
import { runTool, startTool } from '../tool.ts';
import { type Contents, createArguments, extractArguments } from './contents.ts';
import type { CopyOptions } from './copy.ts';
import { ID_COUNT, type SourceKind } from './request.ts';

export type TreeSource = Extract<SourceKind, { kind: 'dir' | 'tar' }>;

export type FillOptions = CopyOptions & {
  readonly fsType: FsType;
  readonly label: string;
  readonly sizeBytes: number;
  readonly idBase: number;
  readonly contents: Contents;
  /** Gets what is read of a tar file, for its sha256. */
  readonly onChunk: (chunk: Buffer) => void;
};

/**
 * Makes `work`, a file of ours, a file system of `sizeBytes` that holds the source. Device nodes are left out.
 * @returns how many device nodes were left out
 * @throws SV_TOOL: mkfs or tar failed, for example since the file system is too small; SV_MOUNT
 */
export async function fillFileSystem(
  source: TreeSource,
  work: string,
  options: FillOptions,
): Promise<{ readonly devices: number }> {
  await makeFileSystem(work, options);
  let devices: number;
  {
    using mount = await mountPrivately(work, { fsType: options.fsType, readOnly: false });
    takeRoot(mount.fd, options.idBase);
    if (options.idBase > 0) showFromZero(mount.fd, options.idBase);
    await copyTree(source, mount.fd, options);
    options.onProgress(options.contents.streamBytes, options.contents.streamBytes);
    devices = await dropDevices(mount.fd, options.signal);
    // The source's own root may belong to anybody; the attach wants to see the base there.
    chownSync(rootOf(mount.fd), 0, 0);
    // Written out by a child: closing the last descriptor would do it as well, and stop this thread for as long.
    await runTool('sync', ['--file-system', '/proc/self/fd/3/.'], { inherit: [mount.fd], signal: options.signal });
  }
  await waitUnused(work, options.signal);
  return { devices };
}

/** Only ever on a file that is made here. */
async function makeFileSystem(
  work: string,
  { fsType, label, sizeBytes, contents, signal }: FillOptions,
): Promise<void> {
  const fd = openSync(work, 'wx', 0o600);
  try {
    ftruncateSync(fd, sizeBytes);
  } finally {
    closeSync(fd);
  }
  const inodes = Math.max(Math.ceil(contents.inodes * 1.25) + 1024, Math.floor(sizeBytes / 16_384));
  const commands = {
    // Inode tables written now: else each snapshot's first mount starts a thread that writes them, in every one of them.
    ext4: [
      'mke2fs',
      '-q',
      '-F',
      '-t',
      'ext4',
      '-m',
      '0',
      '-N',
      `${inodes}`,
      '-L',
      label.slice(0, 16),
      '-E',
      'lazy_itable_init=0,lazy_journal_init=0',
      work,
    ],
    xfs: ['mkfs.xfs', '-q', '-L', label.slice(0, 12), work],
    // One copy of the metadata: a second one on the same file would protect nothing.
    btrfs: ['mkfs.btrfs', '-q', '-m', 'single', '-L', label, work],
  } as const satisfies Record<FsType, readonly string[]>;
  const [file, ...args] = commands[fsType];
  await runTool(file, args, { signal });
}

/** Before anything is mapped, since nobody can chown what belongs to an id without a mapping. */
function takeRoot(mount: MountFd, idBase: number): void {
  const root = rootOf(mount);
  chownSync(root, idBase, idBase);
  chmodSync(root, 0o755);
  const lostAndFound = `${root}/lost+found`;
  if (existsSync(lostAndFound)) chownSync(lostAndFound, idBase, idBase);
}

function showFromZero(mount: MountFd, idBase: number): void {
  const line = `${idBase} 0 ${ID_COUNT}`;
  using userns = createUserNamespace({ uid: line, gid: line });
  mountSetIdmap(mount, userns.fd);
}

/** Two processes and a pipe through this one: when this one dies, both end. */
async function copyTree(source: TreeSource, mount: MountFd, options: FillOptions): Promise<void> {
  const { signal } = options;
  // One failing must end the other, or it waits for ever at its end of the pipe.
  using stop = new Stopper(signal);
  const extract = startTool('tar', extractArguments(source), { signal: stop.signal, input: true, inherit: [mount] });
  const create =
    source.kind === 'dir'
      ? startTool('tar', createArguments(source.path), { signal: stop.signal, output: true })
      : undefined;
  const input: Readable =
    create?.stdout ?? createReadStream(source.kind === 'tar' ? source.path : '', { highWaterMark: 2 ** 18 });
  const failures: unknown[] = [];
  const noteFailure = (error: unknown): void => {
    failures.push(error);
    stop.abort();
  };
  const fed = extract.stdin && feed(input, extract.stdin, options, stop.signal);
  await Promise.all([create?.done, extract.done, fed].map(part => part?.catch(noteFailure)));
  signal?.throwIfAborted();
  const told = failures.find(e => e instanceof ShiftvolError) ?? failures[0];
  if (told === undefined) return;
  throw new ShiftvolError('SV_TOOL', `Cannot copy ${basename(source.path)} into the new file system`, {
    remedy: `if it is full give a larger --size; ids must be below ${ID_COUNT} with an id base`,
    cause: told,
  });
}

/**
 * Reads all of the input, also what comes after the archive's end, when tar may have gone already: the sha256 is that of the whole file,
 * and a program that writes the input must not find its pipe broken. How tar ended is told by tar.
 */
async function feed(
  input: Readable,
  sink: Writable,
  { contents, onProgress, onChunk }: FillOptions,
  signal: AbortSignal,
): Promise<void> {
  const { promise: gone, resolve } = Promise.withResolvers<void>();
  sink.once('close', resolve).once('error', resolve);
  let done = 0;
  for await (const chunk of input as AsyncIterable<Buffer>) {
    signal.throwIfAborted();
    onChunk(chunk);
    done += chunk.length;
    onProgress(Math.min(done, contents.streamBytes), contents.streamBytes);
    if (sink.writable && !sink.write(chunk))
      await Promise.race([new Promise(drained => sink.once('drain', drained)), gone]);
  }
  sink.end();
}

async function dropDevices(mount: MountFd, signal: AbortSignal | undefined): Promise<number> {
  const args = [
    '/proc/self/fd/3/.',
    '-xdev',
    '(',
    '-type',
    'b',
    '-o',
    '-type',
    'c',
    '-o',
    '-type',
    's',
    ')',
    '-printf',
    '%y',
    '-delete',
  ];
  const { stdout } = await runTool('find', args, { inherit: [mount], signal });
  return stdout.replaceAll('s', '').length;
}

const rootOf = (mount: MountFd): string => `/proc/self/fd/${mount}/.`;

class Stopper implements Disposable {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;

  constructor(outer: AbortSignal | undefined) {
    this.#outer = outer;
    outer?.addEventListener('abort', this.abort, { once: true });
  }
  get signal(): AbortSignal {
    return this.#controller.signal;
  }
  readonly abort = (): void => this.#controller.abort();
  [Symbol.dispose](): void {
    this.#outer?.removeEventListener('abort', this.abort);
  }
}
