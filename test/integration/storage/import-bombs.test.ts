import { createWriteStream, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { makePool, run } from '../../rig/pool.ts';
import { refuses } from './importing.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const pool = makePool('xfs', 400 * MIB);
after(() => pool[Symbol.dispose]());

/** A member's header, as ustar has it. `x` is one of pax: what it says of the next member is as large as its size. */
function header(type: '0' | 'x', size: number): Buffer {
  const block = Buffer.alloc(512);
  block.write('file', 0);
  for (const [at, width, value] of [
    [100, 8, 0o644],
    [108, 8, 0],
    [116, 8, 0],
    [136, 12, 0],
  ] as const)
    block.write(value.toString(8).padStart(width - 1, '0'), at);
  // Above 8 GiB in binary, with the first bit set.
  if (size < 8 ** 11) block.write(size.toString(8).padStart(11, '0'), 124);
  else {
    block.writeUInt8(0x80, 124);
    block.writeBigUInt64BE(BigInt(size), 128);
  }
  block.write(type, 156);
  block.write('ustar\x0000', 257, 'latin1');
  block.fill(' ', 148, 156);
  const sum = block.reduce((all, byte) => all + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** Parts of a gzip file may follow each other: so many times 16 MiB of one byte, in as many times 16 KiB. */
async function bomb(name: string, begin: readonly Buffer[], bytes: number, byte = 0): Promise<string> {
  const path = join(pool.base, name);
  const file = createWriteStream(path);
  file.write(gzipSync(Buffer.concat(begin)));
  const part = gzipSync(Buffer.alloc(16 * MIB, byte));
  for (let n = 0; n < bytes / (16 * MIB); n++) file.write(part);
  await new Promise<void>(resolve => file.end(resolve));
  return path;
}

const refused = (from: string, code: 'SV_NO_SPACE' | 'SV_TOOL', sizeBytes?: number): Promise<void> =>
  refuses(pool, { name: 'bomb', from, ...(sizeBytes !== undefined && { sizeBytes }) }, code);

test('a file that unpacks to more than the image that was asked for', async () => {
  await refused(await bomb('large.tgz', [header('0', 64 * GIB)], 64 * GIB), 'SV_NO_SPACE', 64 * MIB);
});

test('a file that unpacks to more than the pool has room for', async () => {
  await refused(await bomb('larger.tgz', [header('0', 64 * GIB)], 64 * GIB), 'SV_NO_SPACE');
});

test('what tar would pass over, looking for a member, or not look at, behind the end', async () => {
  const small = [header('0', 4), Buffer.concat([Buffer.from('data'), Buffer.alloc(508)])];
  await refused(await bomb('junk.tgz', small, 64 * GIB, 0x78), 'SV_NO_SPACE', 64 * MIB);
  await refused(await bomb('padded.tgz', small, 64 * GIB), 'SV_NO_SPACE', 64 * MIB);
});

test('a header that says it is as large as the memory', async () => {
  await refused(await bomb('header.tgz', [header('x', 12 * GIB)], 64 * GIB), 'SV_TOOL', 64 * MIB);
});

test('a file without any blocks that says it has terabytes', async () => {
  const sparse = join(pool.base, 'sparse');
  const tar = join(pool.base, 'sparse.tar');
  writeFileSync(sparse, '');
  truncateSync(sparse, 8 * 2 ** 40);
  run('tar', '--create', '--sparse', `--file=${tar}`, `--directory=${pool.base}`, 'sparse');

  await refused(tar, 'SV_NO_SPACE');
});
