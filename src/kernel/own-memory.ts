/** What of this process's memory can be given back: pages that the kernel has in the program's file as well. */
import { readFileSync, readlinkSync } from 'node:fs';
import { isErrno, isNodeErrno } from './errno.ts';
import { bind, check, NR } from './libc.ts';

const MADV_DONTNEED = 4;
const madvise = bind(NR.madvise, 'ulong', 'ulong', 'int');

/**
 * Unmaps the program's code and constants: those pages stay in the page cache, and what is used again is mapped again, 16 at a time,
 * without reading the disk. Only what cannot be written and has no page of its own (no breakpoint, no huge page copy) is touched.
 * @returns how many bytes of it were mapped
 * @see madvise(2), proc_pid_smaps(5)
 */
export function unmapProgram(): number {
  const program = readlinkSync('/proc/self/exe');
  let bytes = 0;
  for (const { start, end, residentBytes } of cleanRanges(readSmaps(), program)) {
    try {
      check('madvise', madvise(start, end - start, MADV_DONTNEED), program);
      bytes += residentBytes;
    } catch (error) {
      if (!isErrno(error, 'EINVAL')) throw error; // locked in memory
    }
  }
  return bytes;
}

/** '' where the kernel does not tell. */
function readSmaps(): string {
  try {
    return readFileSync('/proc/self/smaps', 'utf8');
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'EACCES')) return '';
    throw error;
  }
}

type Range = { readonly start: bigint; readonly end: bigint; readonly residentBytes: number };

/** Mappings of `program` that are read-only, and whose pages are all the file's. */
export function cleanRanges(smaps: string, program: string): readonly Range[] {
  return smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).flatMap(text => {
    const [, start, end, path] = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ \S+ +(\/.*)$/m.exec(text) ?? [];
    if (start === undefined || end === undefined || path !== program) return [];
    const kib = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1] ?? Number.NaN);
    if (kib('Anonymous') !== 0 || kib('Private_Dirty') !== 0 || kib('Swap') !== 0) return [];
    return [{ start: BigInt(`0x${start}`), end: BigInt(`0x${end}`), residentBytes: kib('Rss') * 1024 }];
  });
}
