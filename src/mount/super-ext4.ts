import type { Head } from './signatures.ts';
import { labelText, type Superblock, uuidText } from './superblock.ts';

const AT = 1024;
const BYTES = 1024;
const MAGIC = 0xef53;
const STATE_CLEAN = 1;
const COMPAT_HAS_JOURNAL = 0x4;
const INCOMPAT_RECOVER = 0x4;
const INCOMPAT_JOURNAL_DEV = 0x8;
const INCOMPAT_64BIT = 0x80;
const INCOMPAT_MMP = 0x100;
/** The kernel takes blocks of at most 64 KiB. */
const MAX_LOG_BLOCK_SIZE = 6;

export const EXT4_HEAD_BYTES = AT + BYTES;
/** Fewer blocks than this in the last group beside its own tables are not taken (resize_inode.c, resize2fs.c). */
const LEAST_GROUP_BLOCKS = 52;

/** How large it is now, and the least by which it can become larger: a last block group too small for its own tables is left out. */
export function ext4Growth(head: Head): { readonly sizeBytes: number; readonly leastGrowthBytes: number } | undefined {
  const found = readExt4(head);
  if (found === undefined) return undefined;
  const s = head.subarray(AT, AT + BYTES);
  const blockBytes = 1024 * 2 ** Math.min(s.readUInt32LE(0x18), MAX_LOG_BLOCK_SIZE);
  const [blocksPerGroup, inodesPerGroup] = [s.readUInt32LE(0x20), s.readUInt32LE(0x28)];
  const inodeTable = Math.ceil((inodesPerGroup * s.readUInt16LE(0x58)) / blockBytes);
  const groups = Math.ceil(found.sizeBytes / blockBytes / blocksPerGroup);
  const descriptors = s.readUInt16LE(0xce) + Math.ceil((groups * 64) / blockBytes);
  return {
    sizeBytes: found.sizeBytes,
    leastGrowthBytes: (inodeTable + descriptors + LEAST_GROUP_BLOCKS) * blockBytes,
  };
}

/** ext2, ext3 and ext4. @see Documentation/filesystems/ext4/super.rst */
export function readExt4(head: Head): Superblock | undefined {
  if (head.length < AT + BYTES) return undefined;
  const s = head.subarray(AT, AT + BYTES);
  if (s.readUInt16LE(0x38) !== MAGIC) return undefined;
  const incompat = s.readUInt32LE(0x60);
  const blocksHigh = incompat & INCOMPAT_64BIT ? s.readUInt32LE(0x150) : 0;
  const blocks = blocksHigh * 2 ** 32 + s.readUInt32LE(0x4);
  const blockBytes = 1024 * 2 ** Math.min(s.readUInt32LE(0x18), MAX_LOG_BLOCK_SIZE);
  const hasJournal = (s.readUInt32LE(0x5c) & COMPAT_HAS_JOURNAL) !== 0;
  const replay = hasJournal ? (incompat & INCOMPAT_RECOVER) !== 0 : (s.readUInt16LE(0x3a) & STATE_CLEAN) === 0;
  return {
    fsType: 'ext4',
    uuid: uuidText(s.subarray(0x68, 0x78)),
    label: labelText(s.subarray(0x78, 0x88)),
    sizeBytes: blocks * blockBytes,
    journal: replay ? 'unclean' : 'clean',
    dangers: [...dangers(s, incompat, hasJournal)],
  };
}

function* dangers(s: Buffer, incompat: number, hasJournal: boolean): Generator<string> {
  if (incompat & INCOMPAT_JOURNAL_DEV) yield 'is the external journal of another file system, which is not accepted';
  // journal_path in s_mount_opts makes the kernel look up a device of the host (tried).
  const options = labelText(s.subarray(0x200, 0x240));
  if (options !== '') yield `brings mount options of its own (${JSON.stringify(options)}), accepted is none`;
  if (s.readUInt32LE(0xe4) !== 0 || (hasJournal && s.readUInt32LE(0xe0) === 0))
    yield 'keeps its journal on another device, accepted is an internal one';
  // The image chooses how long the kernel waits before the mount: up to 18 hours.
  if (incompat & INCOMPAT_MMP) yield 'has multiple mount protection (mmp), which is not accepted';
}
