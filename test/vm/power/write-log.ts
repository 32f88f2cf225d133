/**
 * A disk with a volatile cache that loses its power. QEMU's "blklogwrites" notes each write and each flush of the machine in the order in
 * which they were done; at any point of it, what came before the last flush is on the disk, and of what came after it any part may be.
 * @see Documentation/admin-guide/device-mapper/log-writes.rst for the format
 */
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';

const SECTOR = 512;
const MAGIC = 0x6a736677736872n;
const FLUSH = 1n;
const DISCARD = 4n;

/** `at`: where in the log its data begins. */
export type Entry = {
  readonly at: number;
  readonly sector: number;
  readonly sectors: number;
  readonly isFlush: boolean;
};

/** How many of the sectors of a write that no flush has followed are on the disk. */
export type Luck = (sectors: number) => number;

export class WriteLog implements Disposable {
  readonly #file: number;
  readonly entries: readonly Entry[];

  constructor(path: string) {
    this.#file = openSync(path, 'r');
    this.entries = readEntries(this.#file);
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }

  data({ at, sectors }: Entry): Buffer {
    const data = Buffer.alloc(sectors * SECTOR);
    readSync(this.#file, data, 0, data.length, at);
    return data;
  }

  /** What a blank disk has become when the power goes after the first `count` entries. Returns how many of them are not, or not wholly, on it. */
  replay(count: number, disk: string, luck: Luck): number {
    const before = this.entries.slice(0, count);
    const lastFlush = before.findLastIndex(entry => entry.isFlush);
    const to = openSync(disk, 'r+');
    let lost = 0;
    try {
      for (const [i, entry] of before.entries()) {
        const kept = i <= lastFlush ? entry.sectors : Math.min(luck(entry.sectors), entry.sectors);
        if (kept < entry.sectors) lost++;
        if (kept > 0) writeSync(to, this.data(entry), 0, kept * SECTOR, entry.sector * SECTOR);
      }
    } finally {
      closeSync(to);
    }
    return lost;
  }
}

function readEntries(log: number): readonly Entry[] {
  const size = fstatSync(log).size;
  const header = Buffer.alloc(SECTOR);
  readSync(log, header, 0, SECTOR, 0);
  if (header.readBigUInt64LE(0) !== MAGIC) throw new Error('The log of writes is none: QEMU has not begun it');
  const count = Number(header.readBigUInt64LE(16));
  const entries: Entry[] = [];
  for (let at = SECTOR; at + SECTOR <= size && entries.length < count; ) {
    readSync(log, header, 0, SECTOR, at);
    const [sector, sectors] = [Number(header.readBigUInt64LE(0)), Number(header.readBigUInt64LE(8))];
    const flags = header.readBigUInt64LE(16);
    const isFlush = (flags & FLUSH) !== 0n;
    if ((flags & DISCARD) !== 0n) throw new Error('The machine has discarded blocks, which its disk does not offer');
    if (sectors === 0 && !isFlush) throw new Error(`The log of writes has a hole at ${at}`);
    at += SECTOR;
    entries.push({ at, sector, sectors, isFlush });
    at += sectors * SECTOR;
  }
  if (entries.length < count) throw new Error(`The log of writes ends after ${entries.length} of ${count} entries`);
  return entries;
}
