import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isError } from '../../src/errors.ts';
import { makeConnections } from '../../src/storage/connect/connections.ts';
import { connectorContract } from './contract.ts';
import { PATIENCE_MS, requireMachine, run, say } from './guest.ts';
import { DEAD, FIRST, IPV6, nvmeControllers, nvmeInfo, nvmetService, SECOND, setPortal } from './services/nvmet.ts';

connectorContract('NVMe over TCP, by uuid', nvmetService('uuid'));
connectorContract('NVMe over TCP, by number, over IPv6', nvmetService('number', [IPV6]));
connectorContract('NVMe over TCP, two portals and a dead one', nvmetService('uuid', [DEAD, FIRST, SECOND]), {
  multipath: true,
});

describe('NVMe over TCP', { timeout: PATIENCE_MS }, () => {
  const service = nvmetService('uuid', [FIRST, SECOND]);
  let runDir: string;
  before(async () => {
    requireMachine();
    await service.start();
    runDir = mkdtempSync(join(tmpdir(), 'shiftvol-vm-'));
  });
  after(() => rmSync(runDir, { recursive: true, force: true }));

  test('with one of two portals down it goes on, and the volume is let go of', async t => {
    const { connection } = service.volume('paths');
    const connections = makeConnections({ runDir, multipath: true });
    const { path } = await connections.connect(connection, {});
    assert.equal(nvmeControllers().length, 2);

    setPortal(FIRST, 'down');
    const began = performance.now();
    run('dd', 'if=/dev/urandom', `of=${path}`, 'bs=64k', 'count=16', 'oflag=direct', 'status=none');
    run('dd', `if=${path}`, 'of=/dev/null', 'bs=64k', 'count=16', 'iflag=direct', 'status=none');
    say(t, 'written and read over what is left', began);
    assert.deepEqual(await connections.find(connection), { kind: 'device', path });
    setPortal(FIRST, 'up');

    // Connected again, the portal that has come back is one more path.
    assert.deepEqual(await connections.connect(connection, {}), { kind: 'device', path });
    await connections.disconnect(connection, {});
    assert.deepEqual(nvmeControllers(), []);
  });

  const others = [
    ['number', { ns_id: 4711 }],
    ['NGUID', { volume_nguid: '00000000-0000-0000-0000-000000004711' }],
  ] as const;
  for (const [what, more] of others)
    test(`a namespace that has the volume's uuid and another ${what} is not it`, async () => {
      service.volume('other');
      const { connection } = service.volume('other');
      const uuid = String(connection.facts['uuid']);
      const other = nvmeInfo(1, 'uuid', [FIRST], { vol_uuid: uuid, ...more });
      const connections = makeConnections({ runDir });

      const signal = AbortSignal.timeout(10_000);
      // It is waited for, and does not come.
      await assert.rejects(connections.connect(other, { signal }), e => signal.aborted || isError(e, 'SV_TIMEOUT'));
      assert.equal(await connections.find(other), undefined);
      await connections.disconnect(other, {});
      assert.deepEqual(nvmeControllers(), []);
    });
});
