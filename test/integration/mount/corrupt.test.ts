/**
 * Damaged images: each must be refused with a reason, or mount and unmount. SHIFTVOL_MUTATIONS says how many are tried over the three
 * file systems (500), SHIFTVOL_SEED which (1); a failure names its own seed.
 */
import assert from 'node:assert/strict';
import { closeSync, ftruncateSync, openSync, readdirSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FS_TYPES, type FsType } from '../../../src/engine/model.ts';
import { isError } from '../../../src/errors.ts';
import { loopsOf } from '../../../src/mount/loops.ts';
import { image } from '../../rig/images.ts';
import { type Bench, file, withBench } from './fixture.ts';

const MUTATIONS = Number(process.env['SHIFTVOL_MUTATIONS'] ?? 500);
const SEED = Number(process.env['SHIFTVOL_SEED'] ?? 1);
const BLOCK = 4096;
const BOUND_MS = 20_000;
/** The kernel's DEFAULT_RATELIMIT_INTERVAL, and a little. */
const QUIET_MS = 5_200;
/** Where the superblocks are, and their copies at the beginning. */
const SUPERBLOCK = { ext4: [1024, 1024], xfs: [0, 2048], btrfs: [65536, 4096] } as const satisfies Record<
  FsType,
  readonly [number, number]
>;

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Offsets of the blocks that hold anything: nearly all metadata, for our trees are small. */
function usedBlocks(path: string): readonly number[] {
  const fd = openSync(path, 'r');
  const buffer = Buffer.alloc(1 << 20);
  const used: number[] = [];
  try {
    for (let at = 0; ; at += buffer.length) {
      const length = readSync(fd, buffer, 0, buffer.length, at);
      if (length === 0) return used;
      for (let block = 0; block < length; block += BLOCK)
        if (buffer.subarray(block, block + BLOCK).some(byte => byte !== 0)) used.push(at + block);
    }
  } finally {
    closeSync(fd);
  }
}

function mutate(path: string, fsType: FsType, used: readonly number[], seed: number): string {
  const next = random(seed);
  const below = (n: number) => Math.floor(next() * n);
  const [superAt, superBytes] = SUPERBLOCK[fsType];
  const fd = openSync(path, 'r+');
  const flip = (at: number) => {
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, at);
    writeSync(fd, Buffer.from([(byte[0] ?? 0) ^ (1 << below(8))]), 0, 1, at);
  };
  const blockAt = () => used[below(used.length)] ?? 0;
  try {
    switch (below(8)) {
      case 0: {
        const size = below(statSync(path).size);
        ftruncateSync(fd, size);
        return `cut to ${size} bytes`;
      }
      case 1: {
        const length = 1 + below(superBytes);
        writeSync(fd, Buffer.alloc(length), 0, length, superAt);
        return `first ${length} bytes of the superblock zeroed`;
      }
      case 2:
      case 3: {
        const flips = Array.from({ length: 1 + below(4) }, () => superAt + below(superBytes));
        flips.forEach(flip);
        return `bits of the superblock flipped at ${flips}`;
      }
      case 4: {
        const at = blockAt();
        writeSync(fd, Buffer.alloc(BLOCK), 0, BLOCK, at);
        return `block at ${at} zeroed`;
      }
      case 5: {
        const [from, to] = [blockAt(), blockAt()];
        const block = Buffer.alloc(BLOCK);
        readSync(fd, block, 0, BLOCK, from);
        writeSync(fd, block, 0, BLOCK, to);
        return `block at ${from} written over that at ${to}`;
      }
      default: {
        const flips = Array.from({ length: 1 + below(64) }, () => blockAt() + below(BLOCK));
        flips.forEach(flip);
        return `bits flipped at ${flips}`;
      }
    }
  } finally {
    closeSync(fd);
  }
}

/** Mounts, looks at what is there, unmounts. */
async function tryIt(
  { mounter, spec, attach }: Bench,
  path: string,
): Promise<'mounted' | 'refused' | 'refused without a word'> {
  const mount = spec('m');
  try {
    await attach(file(path), mount);
  } catch (error) {
    if (!isError(error, 'SV_MOUNT', 'SV_IMAGE_REFUSED')) throw error;
    if (error.code === 'SV_MOUNT' && / and nothing else$/.test(error.message)) return 'refused without a word';
    if (error.code === 'SV_MOUNT') assert.match(error.message, /the kernel says ".*loop\d+.*"/);
    return 'refused';
  }
  try {
    for (const name of readdirSync(mount.path)) statSync(`${mount.path}/${name}`, { throwIfNoEntry: false });
  } catch {
    // EUCLEAN, EIO and the like: a damaged tree may say so
  }
  await mounter.unmount(mount.path, { lazy: false });
  return 'mounted';
}

async function within<T>(work: Promise<T>, what: string): Promise<T> {
  const timer = new AbortController();
  const late = sleep(BOUND_MS, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`${what}: not done after ${BOUND_MS} ms`);
  });
  late.catch(() => {}); // aborted when the work is done
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
  }
}

for (const [index, fsType] of FS_TYPES.entries()) {
  const count = Math.floor((MUTATIONS + index) / FS_TYPES.length);
  test(`${count} damaged ${fsType} images are refused with the kernel's reason or mount and unmount`, async t => {
    await withBench(async bench => {
      const used = usedBlocks(image(fsType));
      let mounted = 0;
      let refused = 0;
      let slowestMs = 0;
      for (let i = 0; i < count; i++) {
        const seed = SEED * 1_000_003 + i;
        const path = bench.pool.clone(fsType, 'damaged');
        const what = `${fsType}, seed ${seed}: ${mutate(path, fsType, used, seed)}`;
        const started = performance.now();
        try {
          let outcome = await within(tryIt(bench, path), what);
          if (outcome === 'refused without a word') {
            // btrfs logs so many lines in five seconds and no more; it must have had words for it.
            await sleep(QUIET_MS);
            outcome = await within(tryIt(bench, path), what);
          }
          assert.notEqual(outcome, 'refused without a word');
          if (outcome === 'mounted') mounted++;
          else refused++;
          await bench.mounter.released(file(path), { timeoutMs: 2000 });
        } catch (error) {
          throw new Error(what, { cause: error });
        }
        slowestMs = Math.max(slowestMs, performance.now() - started);
        assert.deepEqual(loopsOf('/sys', path), [], what);
        assert.equal(await bench.mounter.inspect(bench.spec('m').path), undefined, what);
        assert.deepEqual(readdirSync(bench.dir), [], what);
        rmSync(path);
      }
      t.diagnostic(`${fsType}: ${mounted} mounted, ${refused} refused, slowest ${slowestMs.toFixed(0)} ms`);
      assert.ok(refused > 0);
    });
  });
}
