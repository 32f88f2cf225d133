/** What becomes of a template that is there: a second import, snapshots, removal, damage. */
import assert from 'node:assert/strict';
import { existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { isError } from '../../../src/errors.ts';
import { importTemplate } from '../../../src/storage/import/import.ts';
import { setImmutable } from '../../../src/storage/import/staging.ts';
import { layout } from '../../../src/storage/layout.ts';
import { reflinkBackend } from '../../../src/storage/reflink.ts';
import { removeTemplate, showTemplate, verifyTemplate } from '../../../src/storage/templates.ts';
import { makePool, run } from '../../rig/pool.ts';
import { makeTreeImage } from '../../rig/tree.ts';
import { refuses, scribble } from './importing.ts';

const pool = makePool('xfs');
const at = layout(pool.poolDir);
const file = (name: string) => join(pool.base, name);
after(() => pool[Symbol.dispose]());

before(async () => {
  await makeTreeImage(file('ext4'), { files: 50, fsType: 'ext4', sizeBytes: 256 * 2 ** 20 });
});

test('a template is imported once: a second one of its name is refused', async () => {
  await importTemplate(pool, { name: 'once', from: file('ext4') });

  await refuses(pool, { name: 'once', from: file('ext4') }, 'SV_TEMPLATE_EXISTS');

  await removeTemplate(pool, 'once');
});

test('a template is imported once when two import it at the same time', async () => {
  const results = await Promise.allSettled(
    [1, 2].map(() => importTemplate(pool, { name: 'twice', from: file('ext4') })),
  );

  const refused = results.find(r => r.status === 'rejected');
  assert.equal(results.filter(r => r.status === 'fulfilled').length, 1);
  assert.ok(isError(refused?.reason, 'SV_LOCKED', 'SV_TEMPLATE_EXISTS'), String(refused?.reason));
  await removeTemplate(pool, 'twice');
});

test('a template cannot be removed while a snapshot of it exists', async () => {
  const { template } = await importTemplate(pool, { name: 'used', from: file('ext4') });
  const backend = reflinkBackend(pool);
  await backend.snapshot(template, 'used/a1', {});

  await assert.rejects(removeTemplate(pool, 'used'), e => isError(e, 'SV_TEMPLATE_IN_USE'));

  assert.equal(showTemplate(pool, 'used').snapshots, 1);
  await backend.removeSnapshot('used/a1');
  await removeTemplate(pool, 'used');
  await assert.rejects(removeTemplate(pool, 'used'), e => isError(e, 'SV_TEMPLATE_NOT_FOUND'));
  await assert.rejects(backend.snapshot(template, 'used/a2', {}), e => isError(e, 'SV_TEMPLATE_NOT_FOUND'));
  assert.equal(existsSync(at.snapshotDir('used')), false);
});

test('a template is not vouched for when it was changed, or could be', async () => {
  const { template } = await importTemplate(pool, { name: 'changed', from: file('ext4') });
  assert.throws(() => openSync(template.path, 'r+'), /EPERM/);
  setImmutable(template.path, false);
  scribble(template.path, 2 ** 20, 1);

  await assert.rejects(verifyTemplate(pool, 'changed', { onProgress() {} }), e => isError(e, 'SV_CHECKSUM'));
  run('chmod', '600', template.path);
  await assert.rejects(verifyTemplate(pool, 'changed', { onProgress() {} }), e => isError(e, 'SV_IMAGE_REFUSED'));

  await removeTemplate(pool, 'changed');
});
