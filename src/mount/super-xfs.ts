import type { Head } from './signatures.ts';
import { labelText, type Superblock, uuidText } from './superblock.ts';

const BYTES = 512;
const MAGIC = 'XFSB';

/** @see xfs_dsb, XFS Algorithms & Data Structures */
export function readXfs(head: Head): Superblock | undefined {
  if (head.length < BYTES || head.toString('latin1', 0, 4) !== MAGIC) return undefined;
  return {
    fsType: 'xfs',
    uuid: uuidText(head.subarray(32, 48)),
    label: labelText(head.subarray(108, 120)),
    sizeBytes: Number(head.readBigUInt64BE(8)) * head.readUInt32BE(4),
    // Clean is a log whose last record is an unmount record; to find it is to walk the log as the kernel does.
    journal: 'unknown',
    dangers: [...dangers(head)],
  };
}

function* dangers(head: Head): Generator<string> {
  if (head.readBigUInt64BE(48) === 0n) yield 'keeps its log on another device, accepted is an internal one';
  if (head.readBigUInt64BE(16) !== 0n) yield 'has a realtime section on another device, accepted is none';
}
