/** What every storage back end promises; a back end's test is a factory and one line. */
import assert from 'node:assert/strict';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import type { Backend, Template } from '../../../src/engine/ports.ts';
import { isError } from '../../../src/errors.ts';

/** `makeTemplate` puts one there whose image has the given content. */
export type BackendUnderTest = Disposable & {
  readonly backend: Backend;
  makeTemplate(name: string, content: Buffer): Promise<Template>;
};

export function backendContract(name: string, make: () => BackendUnderTest): void {
  const content = Buffer.alloc(2 ** 20, 'shiftvol');

  describe(`${name} as a storage backend`, () => {
    it('makes a snapshot that holds what the template holds', async () => {
      using rig = make();
      const template = await rig.makeTemplate('web', content);

      const { path } = await rig.backend.snapshot(template, 'web/a1', {});

      assert.equal(path, rig.backend.snapshotPath('web/a1'));
      assert.deepEqual(readFileSync(path), content);
      assert.deepEqual(await rig.backend.listSnapshots(), ['web/a1']);
    });

    it('leaves a snapshot that is there already as it is', async () => {
      using rig = make();
      const template = await rig.makeTemplate('web', content);
      const { path } = await rig.backend.snapshot(template, 'web/a1', {});
      writeFileSync(path, 'written by the instance', { flag: 'r+' });

      await rig.backend.snapshot(template, 'web/a1', {});

      assert.equal(readFileSync(path).subarray(0, 23).toString(), 'written by the instance');
    });

    it('does not write through to the template or to another snapshot', async () => {
      using rig = make();
      const template = await rig.makeTemplate('web', content);
      const one = await rig.backend.snapshot(template, 'web/a1', {});
      const two = await rig.backend.snapshot(template, 'web/a2', {});

      writeFileSync(one.path, 'mine', { flag: 'r+' });

      assert.deepEqual(readFileSync(template.path), content);
      assert.deepEqual(readFileSync(two.path), content);
    });

    it('makes a half-made snapshot whole', async () => {
      using rig = make();
      const template = await rig.makeTemplate('web', content);
      for (const half of [0, 4096]) {
        writeFileSync(rig.backend.snapshotPath('web/a1'), Buffer.alloc(half));

        const { path } = await rig.backend.snapshot(template, 'web/a1', {});

        assert.deepEqual(readFileSync(path), content);
        truncateSync(path, 0);
      }
    });

    it('makes a snapshot larger when asked, and finishes one whose growing was cut off', async () => {
      using rig = make();
      const template = await rig.makeTemplate('web', content);
      await rig.backend.snapshot(template, 'web/a1', {});

      const { path } = await rig.backend.snapshot(template, 'web/a1', { sizeBytes: 2 ** 22 });

      assert.equal(statSync(path).size, 2 ** 22);
      await rig.backend.snapshot(template, 'web/a1', {});
      assert.equal(statSync(path).size, 2 ** 22);
      assert.deepEqual(readFileSync(path).subarray(0, content.length), content);
    });

    it('removes a snapshot once, and finds it gone the second time', async () => {
      using rig = make();
      const template = await rig.makeTemplate('web', content);
      await rig.backend.snapshot(template, 'web/a1', {});

      await rig.backend.removeSnapshot('web/a1');
      await rig.backend.removeSnapshot('web/a1');
      await rig.backend.removeSnapshot('never/was');

      assert.deepEqual(await rig.backend.listSnapshots(), []);
    });

    it('refuses names that would leave its directories', async () => {
      using rig = make();
      const template = await rig.makeTemplate('web', content);
      const names = [
        'web',
        'web/',
        '/a',
        'web/../x',
        '../web/a',
        'web/a/b',
        'web/.a',
        'web/A',
        `web/${'a'.repeat(65)}`,
        'web/a\0b',
      ];

      for (const bad of names) {
        await assert.rejects(rig.backend.snapshot(template, bad, {}), e => isError(e, 'SV_USAGE'), bad);
        await assert.rejects(rig.backend.removeSnapshot(bad), e => isError(e, 'SV_USAGE'), bad);
        await assert.rejects(rig.backend.getTemplate(`../${bad}`), e => isError(e, 'SV_USAGE'), bad);
      }

      assert.deepEqual(await rig.backend.listSnapshots(), []);
    });

    it('refuses a snapshot smaller than its template, or of another template', async () => {
      using rig = make();
      const template = await rig.makeTemplate('web', content);

      for (const sizeBytes of [0, -1, 4096, Number.NaN, 2 ** 21 + 0.5])
        await assert.rejects(rig.backend.snapshot(template, 'web/a1', { sizeBytes }), e => isError(e, 'SV_USAGE'));
      await assert.rejects(rig.backend.snapshot(template, 'db/a1', {}), e => isError(e, 'SV_USAGE'));

      assert.deepEqual(await rig.backend.listSnapshots(), []);
    });

    it('finds a template by name, and says so when there is none', async () => {
      using rig = make();
      const template = await rig.makeTemplate('web', content);

      assert.deepEqual(await rig.backend.getTemplate('web'), template);
      await assert.rejects(rig.backend.getTemplate('db'), e => isError(e, 'SV_TEMPLATE_NOT_FOUND'));
    });

    it('does nothing when the caller has cancelled', async () => {
      using rig = make();
      const template = await rig.makeTemplate('web', content);

      await assert.rejects(rig.backend.snapshot(template, 'web/a1', { signal: AbortSignal.abort() }));

      assert.deepEqual(await rig.backend.listSnapshots(), []);
    });
  });
}
