/** A file system where a volume has none: only on one that shows nothing at all. */
import { open } from 'node:fs/promises';
import type { FsType } from '../../engine/model.ts';
import { isError } from '../../errors.ts';
import { runTool } from '../tool.ts';

const LOOKED_AT_BYTES = 2 ** 20;
/** blkid's "nothing found". Another status says that there is something, or that it could not be told. @see blkid(8) */
const BLKID_NOTHING = 2;

export type FileSystemToMake = Extract<FsType, 'ext4' | 'xfs'>;

/**
 * Nothing but zeros in the first and the last MiB, where every superblock, header and partition table has its place or its copy, and
 * nothing that libblkid knows of anywhere else.
 */
export async function isBlank(path: string, signal: AbortSignal | undefined): Promise<boolean> {
  if (!(await hasZerosAtBothEnds(path))) return false;
  try {
    const { status } = await runTool('blkid', ['-p', path], { signal, accept: [0, BLKID_NOTHING, 4, 8] });
    return status === BLKID_NOTHING;
  } catch (error) {
    if (isError(error, 'SV_HOST')) return true; // no blkid here: our own look has to do
    throw error;
  }
}

async function hasZerosAtBothEnds(path: string): Promise<boolean> {
  await using file = await open(path, 'r');
  const size = await sizeOf(path);
  const length = Math.min(LOOKED_AT_BYTES, size);
  if (length === 0) return false;
  for (const at of [0, size - length]) {
    // Not zeros beforehand: what could not be read is not blank.
    const buffer = Buffer.alloc(length, 0xff);
    await file.read(buffer, 0, length, at);
    if (!buffer.every(byte => byte === 0)) return false;
  }
  return true;
}

/** Of a file or block device: where its end is. stat(2) says 0 of a device. */
async function sizeOf(path: string): Promise<number> {
  const { stdout } = await runTool('blockdev', ['--getsize64', path], { accept: [0, 1] });
  if (/^\d+\s*$/.test(stdout)) return Number(stdout);
  await using file = await open(path, 'r');
  return (await file.stat()).size;
}

/**
 * `overwrite`: what a crash left of an earlier one, which mkfs.xfs would refuse. Where nobody can answer it mke2fs asks nothing, and writes
 * over everything: that it may, the caller has made sure.
 */
export async function makeFileSystem(
  path: string,
  fsType: FileSystemToMake,
  { overwrite, signal }: { readonly overwrite: boolean; readonly signal: AbortSignal | undefined },
): Promise<void> {
  // Inode tables written later, by the kernel: a volume may be large. Its root directory belongs to id 0 on disk.
  if (fsType === 'ext4') await runTool('mke2fs', ['-q', '-t', 'ext4', '-m', '0', path], { signal });
  else await runTool('mkfs.xfs', ['-q', ...(overwrite ? ['-f'] : []), path], { signal });
}
