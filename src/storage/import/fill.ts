/**
 * Makes a file system out of a directory or a tar.
 *
 * Owners: the new file system is mounted without a path (nobody else can reach it) and, where an id base is asked for, through a map
 * that shows on-disk id `base + i` as `i`. So tar writes the ids that the source has and they land shifted, with ACLs and file
 * capabilities, which the kernel shifts as well; nothing is chowned afterwards. This is the one place that maps ids to the host's low
 * ones, and it does not go through the guard of instances' mounts: such a mount is never placed.
 */
import { chmodSync, chownSync, closeSync, existsSync, ftruncateSync, openSync } from 'node:fs';
import { basename } from 'node:path';
import type { FsType } from '../../engine/model.ts';
import { isError, ShiftvolError } from '../../errors.ts';
import type { MountFd } from '../../kernel/fd.ts';
import { mountSetIdmap } from '../../kernel/mount.ts';
import { createUserNamespace } from '../../kernel/userns.ts';
import { mountPrivately, waitUnused } from '../private-mount.ts';
import { runTool, startTool } from '../tool.ts';
import { type Contents, createArguments, EXTRACT_ARGUMENTS, type TreeSource } from './contents.ts';
import type { CopyOptions } from './copy.ts';
import { ID_COUNT } from './request.ts';
import { feed, MOST_MEMORY_BYTES, together, unpackInto } from './unpack.ts';

export type FillOptions = CopyOptions & {
  readonly fsType: FsType;
  readonly label: string;
  readonly sizeBytes: number;
  readonly idBase: number;
  readonly contents: Contents;
  /** Of a tar, unpacked. */
  readonly limitBytes: number;
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

/** Processes with pipes through this one: when this one dies, all end. */
async function copyTree(source: TreeSource, mount: MountFd, options: FillOptions): Promise<void> {
  const { contents, limitBytes, onProgress, onChunk, signal } = options;
  let done = 0;
  const onRead = (chunk: Buffer): void => {
    onChunk(chunk);
    done += chunk.length;
    onProgress(Math.min(done, contents.streamBytes), contents.streamBytes);
  };
  try {
    await together(signal, stop => {
      const within = { signal: stop, maxMemoryBytes: MOST_MEMORY_BYTES };
      const extract = startTool('tar', EXTRACT_ARGUMENTS, { ...within, input: true, inherit: [mount] });
      if (extract.stdin === null) return [extract.done];
      if (source.kind === 'tar')
        return [extract.done, ...unpackInto(extract.stdin, source, { signal: stop, limitBytes, onRead })];
      const create = startTool('tar', createArguments(source.path), { signal: stop, output: true });
      return [create.done, extract.done, create.stdout ? feed(create.stdout, extract.stdin, onRead, stop) : undefined];
    });
  } catch (cause) {
    if (signal?.aborted || isError(cause, 'SV_NO_SPACE')) throw cause;
    throw new ShiftvolError('SV_TOOL', `Cannot copy ${basename(source.path)} into the new file system`, {
      remedy: `if it is full give a larger --size; ids must be below ${ID_COUNT} with an id base`,
      cause,
    });
  }
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
