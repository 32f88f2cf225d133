import type { Head } from './signatures.ts';
import { labelText, type Superblock, uuidText } from './superblock.ts';

const AT = 65536;
const BYTES = 4096;
const MAGIC = '_BHRfS_M';
const FLAG_SEEDING = 1n << 32n;

/** @see btrfs_super_block, on-disk format */
export function readBtrfs(head: Head): Superblock | undefined {
  if (head.length < AT + BYTES) return undefined;
  const s = head.subarray(AT, AT + BYTES);
  if (s.toString('latin1', 0x40, 0x48) !== MAGIC) return undefined;
  return {
    fsType: 'btrfs',
    uuid: uuidText(s.subarray(0x20, 0x30)),
    label: labelText(s.subarray(0x12b, 0x22b)),
    sizeBytes: Number(s.readBigUInt64LE(0x70)),
    // All is copied on write; only a tree log of the last fsyncs is ever replayed.
    journal: s.readBigUInt64LE(0x60) === 0n ? 'clean' : 'unclean',
    dangers: [...dangers(s)],
  };
}

function* dangers(s: Buffer): Generator<string> {
  // The kernel refuses this one without a word.
  if (s.readBigUInt64LE(0x30) !== BigInt(AT))
    yield `has a damaged superblock: it says that it stands at ${s.readBigUInt64LE(0x30)}, not at ${AT}`;
  const devices = s.readBigUInt64LE(0x88);
  // The kernel would look for the others among the host's block devices.
  if (devices !== 1n) yield `spans ${devices} devices, accepted is one`;
  if (s.readBigUInt64LE(0x38) & FLAG_SEEDING) yield 'is a seed for other devices, which is not accepted';
}
