import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { importTemplate, STAGES, type Stage } from '../../../src/storage/import/import.ts';
import { cleanTemplates } from '../../../src/storage/import/staging.ts';
import { layout } from '../../../src/storage/layout.ts';
import { listTemplates, removeTemplate } from '../../../src/storage/templates.ts';
import { makePool, run } from '../../rig/pool.ts';
import { makeTree, makeTreeImage } from '../../rig/tree.ts';
import { hostState } from './host-state.ts';

const pool = makePool('xfs');
const at = layout(pool.poolDir);
const tree = join(pool.base, 'tree');
const image = join(pool.base, 'image.qcow2');
after(async () => {
  // A killed process's children end when their pipe breaks, a moment later.
  await gone(() => hostState(pool.poolDir).loops.length === 0);
  pool[Symbol.dispose]();
});
before(async () => {
  await makeTree(tree, { files: 5000 });
  await makeTreeImage(join(pool.base, 'image'), { files: 2000, fsType: 'ext4', sizeBytes: 2 ** 28 });
  run('qemu-img', 'convert', '-O', 'qcow2', join(pool.base, 'image'), image);
});

describe('an interrupted import', () => {
  for (const stage of STAGES.filter(s => s !== 'download'))
    it(`leaves nothing when it is cancelled at "${stage}"`, async () => {
      const before = hostState(pool.poolDir);
      const from = stage === 'convert' || stage === 'copy' ? image : tree;
      const stop = new AbortController();
      const onProgress = (now: Stage) => now === stage && stop.abort();

      await assert.rejects(importTemplate(pool, { name: 'web', from }, { signal: stop.signal, onProgress }), {
        name: 'AbortError',
      });

      assert.deepEqual(hostState(pool.poolDir), before);
    });

  for (const stage of STAGES.filter(s => s !== 'download'))
    it(`is nothing that looks finished when its process is killed at "${stage}", and the next import clears it`, async () => {
      const from = stage === 'convert' || stage === 'copy' ? image : tree;

      await killAt(stage, from);

      assert.deepEqual(listTemplates(pool), []);
      await gone(() => hostState(pool.poolDir).loops.length === 0);
      await importTemplate(pool, { name: 'other', from: image });
      assert.deepEqual(readdirSync(at.templates).toSorted(), ['.lock', 'other']);
      await removeTemplate(pool, 'other');
    });

  it('is taken away by recover, one that is alive is not', async () => {
    await killAt('fill', tree);
    const stop = new AbortController();
    const alive = importTemplate(pool, { name: 'alive', from: tree }, { signal: stop.signal });
    await gone(() => existsSync(join(at.templates, '.import-alive')));

    assert.deepEqual(await cleanTemplates(at), []);

    stop.abort();
    await assert.rejects(alive);
    assert.deepEqual(readdirSync(at.templates), ['.lock']);
    await killAt('fill', tree);
    assert.deepEqual(await cleanTemplates(at), ['.import-web']);
    assert.deepEqual(readdirSync(at.templates), ['.lock']);
  });
});

/** Imports `web` in a process of its own, which is killed when it tells of this stage. */
async function killAt(stage: Stage, from: string): Promise<void> {
  const module = new URL('../../../src/storage/import/import.ts', import.meta.url).href;
  const code = `
    const { importTemplate } = await import(${JSON.stringify(module)});
    const onProgress = stage => { if (stage === ${JSON.stringify(stage)}) process.kill(process.pid, 'SIGKILL'); };
    await importTemplate(${JSON.stringify({ poolDir: pool.poolDir })}, ${JSON.stringify({ name: 'web', from })}, { onProgress });`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', code], { stdio: 'inherit' });
  const [, signal] = await once(child, 'exit');
  assert.equal(signal, 'SIGKILL');
}

async function gone(condition: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 20_000; !condition(); ) {
    assert.ok(performance.now() < deadline, 'it did not come about');
    await sleep(10);
  }
}
