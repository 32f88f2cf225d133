import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isError } from '../../../../src/errors.ts';
import { makeConnections } from '../../../../src/storage/connect/connections.ts';
import { readConnection } from '../../../../src/storage/connect/info.ts';

describe('a volume that a service says is on this host', () => {
  let base: string;
  before(() => {
    base = mkdtempSync(join(tmpdir(), 'shiftvol-local-'));
    mkdirSync(join(base, 'volumes'));
    mkdirSync(join(base, 'volumes-of-others'));
    for (const name of ['volumes/one', 'volumes-of-others/two', 'secret']) writeFileSync(join(base, name), name);
    symlinkSync(join(base, 'secret'), join(base, 'volumes/link'));
    symlinkSync(base, join(base, 'volumes/up'));
  });
  after(() => rmSync(base, { recursive: true }));

  const connect = async (path: string, localPaths: readonly string[]) => {
    const info = { driver_volume_type: 'local', serial: 'v', data: { device_path: path } };
    return await makeConnections({ runDir: base, localPaths }).connect(readConnection(info).connection, {});
  };
  const refused = (error: unknown) =>
    isError(error, 'SV_CONNECTION_INFO') && error.remedy?.includes('volumes.local_paths') === true;

  test('is refused where the operator has listed nothing', async () => {
    await assert.rejects(connect(join(base, 'volumes/one'), []), refused);
    await assert.rejects(connect('/dev/null', []), refused);
  });

  test('is taken from a listed directory, or by the beginning of its name', async () => {
    const path = join(base, 'volumes/one');
    assert.deepEqual(await connect(path, [join(base, 'volumes')]), { kind: 'file', path });
    assert.deepEqual(await connect(path, [join(base, 'volumes/o*')]), { kind: 'file', path });
  });

  test('is refused beside it, and where a link leads out of it', async () => {
    const listed = [join(base, 'volumes')];
    for (const name of ['volumes-of-others/two', 'secret', 'volumes/link', 'volumes/up/secret', 'volumes'])
      await assert.rejects(connect(join(base, name), listed), refused, name);
    await assert.rejects(connect(join(base, 'volumes/one'), [join(base, 'vol*')]), refused);
  });

  test('that is not there is told so', async () => {
    await assert.rejects(connect(join(base, 'volumes/none'), [join(base, 'volumes')]), e =>
      isError(e, 'SV_VOLUME_NOT_FOUND'),
    );
  });
});
