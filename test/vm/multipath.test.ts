import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isError } from '../../src/errors.ts';
import { makeConnections } from '../../src/storage/connect/connections.ts';
import { connectorContract } from './contract.ts';
import { PATIENCE_MS, say } from './guest.ts';
import { DEAD, FIRST, iscsiInfo, iscsiService, iscsiTraces, SECOND } from './services/iscsi.ts';

const both = { portals: [FIRST, SECOND], chap: false } as const;
const service = iscsiService(both);
connectorContract('iSCSI over two paths', service, { multipath: true });

describe('iSCSI over several paths', { timeout: PATIENCE_MS }, () => {
  const runDir = mkdtempSync(join(tmpdir(), 'shiftvol-vm-'));
  const connections = makeConnections({ runDir, multipath: true });
  const lunOf = (connection: { facts: { paths?: unknown } }) =>
    Number(String(connection.facts.paths).split(' ').at(-1));

  test('one of which is dead', async t => {
    const clean = iscsiTraces();
    const lun = lunOf(service.volume('dead').connection);
    const { connection } = iscsiInfo('dead', lun, { portals: [FIRST, DEAD, SECOND], chap: false });
    const began = performance.now();
    assert.match((await connections.connect(connection, {})).path, /^\/dev\/dm-/);
    say(t, 'connect', began);
    await connections.disconnect(connection, {});
    assert.deepEqual(iscsiTraces(), clean);
  });

  test('which lead to different volumes is refused, and leaves nothing', async () => {
    const clean = iscsiTraces();
    const [one, two] = [service.volume('one'), service.volume('two')].map(each => lunOf(each.connection));
    const { connection } = iscsiInfo('mixed', one ?? 0, both, [one ?? 0, two ?? 0]);
    await assert.rejects(
      connections.connect(connection, {}),
      e => isError(e, 'SV_CONNECTION') && /different/.test(e.message),
    );
    await connections.disconnect(connection, {});
    assert.deepEqual(iscsiTraces(), clean);
    rmSync(runDir, { recursive: true, force: true });
  });
});
