/** How tar is called, and how much there is in a directory or tar: what the size of a new file system is guessed from. */
import { statSync } from 'node:fs';
import { runTool, startTool } from '../tool.ts';
import type { SourceKind } from './request.ts';
import { MOST_MEMORY_BYTES, type TarSource, together, unpackInto } from './unpack.ts';

export type TreeSource = TarSource | Extract<SourceKind, { kind: 'dir' }>;

export type Contents = {
  readonly inodes: number;
  /** Of files, each rounded up to whole blocks. */
  readonly dataBytes: number;
  /** What goes through the pipe: for progress. */
  readonly streamBytes: number;
  readonly sockets: number;
};

const BLOCK = 4096;
const MIB = 2 ** 20;
/** Everything that an owner can have set: tar leaves all of it out unless asked. */
const ATTRIBUTES = ['--numeric-owner', '--xattrs', '--xattrs-include=*', '--acls'];

export function createArguments(directory: string): readonly string[] {
  // Mount points inside are left out: what is below them is not this tree's.
  return [
    '--create',
    '--file=-',
    `--directory=${directory}`,
    '--format=posix',
    '--one-file-system',
    '--sparse',
    ...ATTRIBUTES,
    '.',
  ];
}

/** Into descriptor 3. GNU tar itself refuses "..", strips a leading "/" and makes symlinks last, so that no member leads outside. */
export const EXTRACT_ARGUMENTS: readonly string[] = [
  '--extract',
  '--file=-',
  '--directory=/proc/self/fd/3',
  '--same-owner',
  '--preserve-permissions',
  '--delay-directory-restore',
  ...ATTRIBUTES,
];

/** `limitBytes`: of a tar, unpacked. @throws SV_NO_SPACE, SV_TOOL */
export async function measure(
  source: TreeSource,
  limitBytes: number,
  signal: AbortSignal | undefined,
): Promise<Contents> {
  const tally = new Tally();
  if (source.kind === 'dir') {
    await runTool('find', [source.path, '-xdev', '-printf', '%y %s\n'], {
      signal,
      onOutput: tally.feed(line => [line[0] ?? '', Number(line.slice(2))]),
    });
    return tally.contents();
  }
  // "-rw-r--r-- 0/0 1234 2026-01-01 00:00 name"; names are quoted, a line is a member.
  const size = /^(.)\S*\s+\S+\s+(\d+)/;
  const feed = tally.feed(line => {
    const found = size.exec(line);
    return [(found?.[1] ?? '').replace('-', 'f'), Number(found?.[2] ?? 0)];
  });
  await together(signal, stop => {
    const options = { signal: stop, input: true, onOutput: feed, maxMemoryBytes: MOST_MEMORY_BYTES };
    const list = startTool('tar', ['--list', '--verbose', '--numeric-owner', '--file=-'], options);
    return [list.done, ...(list.stdin ? unpackInto(list.stdin, source, { signal: stop, limitBytes }) : [])];
  });
  return { ...tally.contents(), streamBytes: statSync(source.path).size };
}

/** Half as much again, and room for journal and tables: free space costs nothing, since it is not written. */
export function sizeFor({ inodes, dataBytes }: Contents): number {
  return Math.ceil((1.5 * (dataBytes + inodes * 512) + 512 * MIB) / MIB) * MIB;
}

class Tally {
  #inodes = 0;
  #data = 0;
  #stream = 0;
  #sockets = 0;
  #rest = '';

  feed(parse: (line: string) => readonly [type: string, size: number]): (chunk: Buffer) => void {
    return chunk => {
      // Latin 1: only the ASCII in front is looked at, and no character is cut at a chunk's end.
      const lines = (this.#rest + chunk.toString('latin1')).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) this.#add(...parse(line));
    };
  }

  contents(): Contents {
    return { inodes: this.#inodes, dataBytes: this.#data, streamBytes: this.#stream, sockets: this.#sockets };
  }

  #add(type: string, size: number): void {
    this.#inodes++;
    if (type === 's') this.#sockets++;
    const whole = type === 'f' || type === 'd' ? Math.ceil(size / BLOCK) * BLOCK : 0;
    this.#data += whole;
    // A header, and the contents in units of 512; an estimate, extended attributes have headers too.
    this.#stream += 512 + (type === 'f' ? Math.ceil(size / 512) * 512 : 0);
  }
}
