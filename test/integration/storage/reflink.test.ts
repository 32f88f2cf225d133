import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { Template } from '../../../src/engine/ports.ts';
import { isError } from '../../../src/errors.ts';
import { layout } from '../../../src/storage/layout.ts';
import { reflinkBackend } from '../../../src/storage/reflink.ts';
import { templateText } from '../../../src/storage/template-file.ts';
import { makePool, run } from '../../rig/pool.ts';
import { backendContract } from './contract.ts';

const pools = { xfs: makePool('xfs'), btrfs: makePool('btrfs') };
after(() => {
  for (const pool of Object.values(pools)) pool[Symbol.dispose]();
});

/** A template's files without an import: this is about snapshots. */
function putTemplate(poolDir: string, name: string, content: Buffer): Template {
  const at = layout(poolDir);
  mkdirSync(at.templateDir(name), { recursive: true });
  mkdirSync(at.snapshotDir(name), { recursive: true });
  writeFileSync(at.image(name), content);
  const template: Template = {
    name,
    fsType: 'ext4',
    uuid: '00000000-0000-4000-8000-000000000000',
    label: name,
    sizeBytes: content.length,
    idBase: 0,
    sha256: createHash('sha256').update(content).digest('hex'),
    extents: 1,
    path: at.image(name),
    createdAt: new Date(0).toISOString(),
  };
  writeFileSync(at.metadata(name), templateText(template));
  return template;
}

for (const [kind, pool] of Object.entries(pools))
  backendContract(`reflink on ${kind}`, () => ({
    backend: reflinkBackend(pool),
    makeTemplate: async (name, content) => putTemplate(pool.poolDir, name, content),
    [Symbol.dispose]() {
      for (const directory of ['templates', 'snapshots'])
        rmSync(join(pool.poolDir, directory), { recursive: true, force: true });
    },
  }));

describe('reflink', () => {
  it('says that the pool is missing where there is none', async () => {
    const backend = reflinkBackend({ poolDir: '/nonexistent/pool' });

    await assert.rejects(backend.getTemplate('web'), e => isError(e, 'SV_POOL_NOT_FOUND'));
    assert.deepEqual(await backend.listSnapshots(), []);
  });

  it('makes no snapshot of a template that is being removed', async () => {
    using pool = makePool('xfs', 2 ** 29);
    const template = putTemplate(pool.poolDir, 'web', Buffer.alloc(4096));
    rmSync(layout(pool.poolDir).snapshotDir('web'), { recursive: true });

    await assert.rejects(reflinkBackend(pool).snapshot(template, 'web/a1', {}), e =>
      isError(e, 'SV_TEMPLATE_NOT_FOUND'),
    );
  });

  it('says that the pool is full', async () => {
    using pool = makePool('xfs', 2 ** 29);
    const template = putTemplate(pool.poolDir, 'web', Buffer.alloc(2 ** 20, 1));
    const backend = reflinkBackend(pool);
    try {
      run('fallocate', '-l', '100G', join(pool.poolDir, 'filler'));
    } catch {
      // What fits stays allocated, or nothing does; then fill it block by block.
    }
    try {
      run('dd', 'if=/dev/zero', `of=${join(pool.poolDir, 'filler2')}`, 'bs=1M', 'conv=fsync');
    } catch {
      // dd ends with "no space left", which is what this wants.
    }

    const error = await fillWithSnapshots();

    assert.ok(isError(error, 'SV_NO_SPACE'), String(error));
    assert.match(error.remedy ?? '', /pool grow/);

    async function fillWithSnapshots(): Promise<unknown> {
      for (let i = 0; i < 20_000; i++) {
        try {
          await backend.snapshot(template, `web/s${i}`, {});
        } catch (error) {
          return error;
        }
      }
      return undefined;
    }
  });

  it('makes the snapshot again after a power cut that came before anything was synced', async () => {
    using pool = makePool('xfs', 2 ** 29);
    const content = Buffer.alloc(2 ** 20, 'shiftvol');
    const template = putTemplate(pool.poolDir, 'web', content);
    const backend = reflinkBackend(pool);
    run('sync', '-f', pool.poolDir);

    const { path } = await backend.snapshot(template, 'web/a1', {});
    // The kernel drops what is not on the disk, as a power cut does.
    run('xfs_io', '-x', '-c', 'shutdown', pool.poolDir);
    run('umount', pool.poolDir);
    run('mount', '-o', 'loop', join(pool.base, 'pool.img'), pool.poolDir);
    assert.deepEqual(await backend.listSnapshots(), [], 'the cut took it: else this shows nothing');
    await backend.snapshot(template, 'web/a1', {});

    assert.deepEqual(readFileSync(path), content);
  });

  it('takes far less than a millisecond', async () => {
    const { poolDir } = pools.xfs;
    const template = putTemplate(poolDir, 'speed', Buffer.alloc(64 * 2 ** 20, 'x'));
    run('sync', '-f', poolDir);
    const backend = reflinkBackend({ poolDir });
    const times: number[] = [];

    for (let i = 0; i < 200; i++) {
      const begun = performance.now();
      await backend.snapshot(template, `speed/s${i}`, {});
      times.push(performance.now() - begun);
    }

    const median = times.toSorted((a, b) => a - b)[100] ?? Number.NaN;
    console.log(`# snapshot on XFS: median ${median.toFixed(3)} ms`);
    assert.ok(median < 2, `median ${median} ms`);
  });
});
