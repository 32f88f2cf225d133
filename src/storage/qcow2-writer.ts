/**
 * A raw image as a qcow2, in one pass and without a copy of it on the disk: which clusters hold data is known beforehand, so that all
 * tables can be written before what they point to. Holes take no room. @see docs/interop/qcow2.rst of QEMU
 */
import { constants, fstatSync, read } from 'node:fs';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { isErrno } from '../kernel/errno.ts';
import { type Fd, open } from '../kernel/fd.ts';
import { fileExtents } from '../kernel/fiemap.ts';

const readAsync = promisify(read);

const CLUSTER_BITS = 16;
const CLUSTER = 2 ** CLUSTER_BITS;
const ENTRY = 8;
const PER_TABLE = CLUSTER / ENTRY;
/** 16 bits each. */
const REFCOUNTS_PER_BLOCK = CLUSTER / 2;
/** Of an entry: nobody else has this cluster. */
const COPIED = 1n << 63n;
/** Clusters that are read at once. */
const BATCH = 16;

export type Qcow2Stream = { readonly body: Readable; readonly sizeBytes: number };

/** The file must not change until the stream has ended or is destroyed. */
export function qcow2Stream(path: string, signal?: AbortSignal): Qcow2Stream {
  const file = open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { size } = fstatSync(file.fd);
    const plan = planImage(size, clustersWithData(file.fd, path, size));
    const pieces = async function* () {
      using _ = file;
      yield* head(plan);
      yield* data(plan, file.fd, signal);
    };
    const body = Readable.from(pieces(), { objectMode: false, highWaterMark: CLUSTER * BATCH });
    // A generator that was never begun runs no `finally`.
    body.once('close', () => file[Symbol.dispose]());
    return { body, sizeBytes: plan.clusters * CLUSTER };
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
}

/** Clusters of the raw image, in their order; none twice. */
type Run = { readonly start: number; readonly count: number };
type Plan = {
  readonly virtualBytes: number;
  readonly runs: readonly Run[];
  /** Which second-level tables there are, by their place in the first. */
  readonly tables: readonly number[];
  readonly l1Entries: number;
  /** First clusters in the qcow2. */
  readonly refcountTable: number;
  readonly refcountTableClusters: number;
  readonly refcountBlocks: number;
  readonly refcountBlockCount: number;
  readonly l1: number;
  readonly l2: number;
  readonly data: number;
  /** All of them. */
  readonly clusters: number;
};

export function planImage(virtualBytes: number, runs: readonly Run[]): Plan {
  const l1Entries = Math.max(1, Math.ceil(virtualBytes / (CLUSTER * PER_TABLE)));
  const l1Clusters = Math.ceil((l1Entries * ENTRY) / CLUSTER);
  const tables = [...new Set(runs.flatMap(tablesOf))].toSorted((a, b) => a - b);
  const dataClusters = runs.reduce((sum, { count }) => sum + count, 0);
  const others = 1 + l1Clusters + tables.length + dataClusters;
  // Counts of references count themselves, too.
  let blocks = 1;
  let tableClusters = 1;
  for (;;) {
    const needed = Math.ceil((others + blocks + tableClusters) / REFCOUNTS_PER_BLOCK);
    const neededClusters = Math.ceil((needed * ENTRY) / CLUSTER);
    if (needed === blocks && neededClusters === tableClusters) break;
    [blocks, tableClusters] = [needed, neededClusters];
  }
  const refcountBlocks = 1 + tableClusters;
  const l1 = refcountBlocks + blocks;
  const l2 = l1 + l1Clusters;
  const data = l2 + tables.length;
  return {
    virtualBytes,
    runs,
    tables,
    l1Entries,
    refcountTable: 1,
    refcountTableClusters: tableClusters,
    refcountBlocks,
    refcountBlockCount: blocks,
    l1,
    l2,
    data,
    clusters: data + dataClusters,
  };
}

function tablesOf({ start, count }: Run): readonly number[] {
  const first = Math.floor(start / PER_TABLE);
  const last = Math.floor((start + count - 1) / PER_TABLE);
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** Everything but the data. */
function* head(plan: Plan): Generator<Buffer> {
  yield header(plan);
  yield entries(plan.refcountTableClusters, plan.refcountBlockCount, i => offsetOf(plan.refcountBlocks + i));
  for (let block = 0; block < plan.refcountBlockCount; block++) yield refcounts(plan, block);
  const place = new Map(plan.tables.map((table, i) => [table, offsetOf(plan.l2 + i) | COPIED]));
  yield entries(plan.l2 - plan.l1, plan.l1Entries, i => place.get(i) ?? 0n);
  yield* secondLevel(plan);
}

/** Version 3; its extensions end with the zeros after it. */
function header(plan: Plan): Buffer {
  const buffer = Buffer.alloc(CLUSTER);
  buffer.write('QFI\xfb', 'latin1');
  buffer.writeUInt32BE(3, 4);
  buffer.writeUInt32BE(CLUSTER_BITS, 20);
  buffer.writeBigUInt64BE(BigInt(plan.virtualBytes), 24);
  buffer.writeUInt32BE(plan.l1Entries, 36);
  buffer.writeBigUInt64BE(offsetOf(plan.l1), 40);
  buffer.writeBigUInt64BE(offsetOf(plan.refcountTable), 48);
  buffer.writeUInt32BE(plan.refcountTableClusters, 56);
  // 2^4 bits for each count of references.
  buffer.writeUInt32BE(4, 96);
  buffer.writeUInt32BE(104, 100);
  return buffer;
}

/** Every cluster that there is, is there once. */
function refcounts({ clusters }: Plan, block: number): Buffer {
  const buffer = Buffer.alloc(CLUSTER);
  const used = Math.min(REFCOUNTS_PER_BLOCK, clusters - block * REFCOUNTS_PER_BLOCK);
  for (let i = 0; i < used; i++) buffer.writeUInt16BE(1, i * 2);
  return buffer;
}

function* secondLevel({ tables, runs, data }: Plan): Generator<Buffer> {
  let next = data;
  let [run = 0, done = 0] = [0, 0];
  for (const table of tables) {
    const buffer = Buffer.alloc(CLUSTER);
    const end = (table + 1) * PER_TABLE;
    for (let at = runs[run]; at && at.start + done < end; at = runs[run]) {
      buffer.writeBigUInt64BE(offsetOf(next++) | COPIED, ((at.start + done) % PER_TABLE) * ENTRY);
      done++;
      if (done === at.count) [run, done] = [run + 1, 0];
    }
    yield buffer;
  }
}

async function* data({ runs, virtualBytes }: Plan, fd: Fd, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  for (const { start, count } of runs)
    for (let done = 0; done < count; done += BATCH) {
      signal?.throwIfAborted();
      // The last cluster may reach beyond the end, and is whole all the same.
      const buffer = Buffer.alloc(Math.min(BATCH, count - done) * CLUSTER);
      const from = (start + done) * CLUSTER;
      const wanted = Math.min(buffer.length, virtualBytes - from);
      for (let have = 0; have < wanted; ) {
        const { bytesRead } = await readAsync(fd, buffer, have, wanted - have, from + have);
        if (bytesRead === 0) throw new Error('the image became shorter while it was read');
        have += bytesRead;
      }
      yield buffer;
    }
}

/** Where a file system does not tell, all of it. */
function clustersWithData(fd: Fd, path: string, size: number): readonly Run[] {
  const last = Math.ceil(size / CLUSTER);
  const runs: { start: number; count: number }[] = [];
  try {
    for (const { start, count, unwritten } of fileExtents(fd, path)) {
      if (unwritten || start >= size) continue;
      const before = runs.at(-1);
      const free = before ? before.start + before.count : 0;
      const first = Math.max(free, Math.floor(start / CLUSTER));
      const end = Math.min(last, Math.ceil((start + count) / CLUSTER));
      if (end <= first) continue;
      if (before && first === free) before.count += end - first;
      else runs.push({ start: first, count: end - first });
    }
  } catch (error) {
    if (!isErrno(error, 'ENOTSUP', 'EOPNOTSUPP')) throw error;
    return [{ start: 0, count: last }];
  }
  return runs;
}

function entries(clusters: number, count: number, entry: (i: number) => bigint): Buffer {
  const buffer = Buffer.alloc(clusters * CLUSTER);
  for (let i = 0; i < count; i++) buffer.writeBigUInt64BE(entry(i), i * ENTRY);
  return buffer;
}

const offsetOf = (cluster: number): bigint => BigInt(cluster) * BigInt(CLUSTER);
