import { bind, check, descriptorArgument, NR } from './libc.ts';

const FS_IOC_FIEMAP = 0xc020660b;
const FLAG_SYNC = 1;
const EXTENT_LAST = 0x1;
/** FIEMAP_EXTENT_UNKNOWN, DELALLOC, ENCODED, DATA_ENCRYPTED, NOT_ALIGNED, DATA_INLINE, DATA_TAIL: `physical` does not say where the bytes are. */
const EXTENT_VAGUE = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400;
const EXTENT_UNWRITTEN = 0x800;
const EXTENT_SHARED = 0x2000;
const HEADER = 32;
const RECORD = 56;
const RECORDS = 512;

/** A run of a file's bytes that lies in one piece. `unwritten`: reserved, and reads as zeros. */
export type FileExtent = {
  readonly start: number;
  readonly count: number;
  readonly physical: number;
  readonly unwritten: boolean;
  /** Another file has it too. */
  readonly shared: boolean;
  /** `physical` is not the place of these bytes: compressed, inline, or not written out yet. */
  readonly vague: boolean;
};

const ioctl = bind(NR.ioctl, 'int', 'ulong', 'void *');

/**
 * The extents of a file from its beginning, after its dirty pages were written out (unless `sync` is false: then what is not written yet
 * is vague). Borrows `fd`. In bytes.
 * @throws {KernelError} EOPNOTSUPP (told as ENOTSUP): this file system does not tell
 * @see linux/fiemap.h, Linux 2.6.28
 */
export function* fileExtents(fd: number, object: string, { sync = true } = {}): Generator<FileExtent> {
  const buffer = Buffer.alloc(HEADER + RECORDS * RECORD);
  let start = 0n;
  for (;;) {
    buffer.fill(0);
    buffer.writeBigUInt64LE(start, 0);
    buffer.writeBigUInt64LE(0xffff_ffff_ffff_ffffn - start, 8);
    buffer.writeUInt32LE(sync ? FLAG_SYNC : 0, 16);
    buffer.writeUInt32LE(RECORDS, 24);
    check('FS_IOC_FIEMAP', ioctl(descriptorArgument(fd), FS_IOC_FIEMAP, buffer), object);
    const mapped = buffer.readUInt32LE(20);
    if (mapped === 0) return;
    for (let i = 0; i < mapped; i++) {
      const at = HEADER + i * RECORD;
      const logical = buffer.readBigUInt64LE(at);
      const length = buffer.readBigUInt64LE(at + 16);
      const flags = buffer.readUInt32LE(at + 40);
      start = logical + length;
      yield {
        start: Number(logical),
        count: Number(length),
        physical: Number(buffer.readBigUInt64LE(at + 8)),
        unwritten: (flags & EXTENT_UNWRITTEN) !== 0,
        shared: (flags & EXTENT_SHARED) !== 0,
        vague: (flags & EXTENT_VAGUE) !== 0,
      };
      if ((flags & EXTENT_LAST) !== 0) return;
    }
  }
}

/** How many extents a file has: what a FICLONE of it costs. Borrows `fd`. */
export function countExtents(fd: number, object: string): number {
  let extents = 0;
  for (const _ of fileExtents(fd, object)) extents++;
  return extents;
}
