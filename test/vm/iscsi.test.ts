import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isError } from '../../src/errors.ts';
import { makeConnections } from '../../src/storage/connect/connections.ts';
import { connectorContract, MiB } from './contract.ts';
import { PATIENCE_MS, requireMachine, run, SCRATCH, say } from './guest.ts';
import {
  addUnit,
  DEAD,
  FIRST,
  IPV6,
  iscsiInfo,
  iscsiService,
  iscsiTraces,
  nextLun,
  replaceUnit,
} from './services/iscsi.ts';

const chap = true;
const service = iscsiService({ portals: [FIRST], chap });
connectorContract('iSCSI with CHAP', service);

describe('iSCSI', { timeout: PATIENCE_MS }, () => {
  let runDir: string;
  let clean: readonly string[];
  before(() => {
    requireMachine();
    runDir = mkdtempSync(join(tmpdir(), 'shiftvol-vm-'));
    clean = iscsiTraces();
  });
  after(() => rmSync(runDir, { recursive: true, force: true }));
  const unit = (sizeBytes: number): number => {
    const number = nextLun();
    addUnit(number, `${SCRATCH}/iscsi-${number}.img`, sizeBytes);
    return number;
  };

  for (const address of [IPV6, '[0:0:0:0:0:0:0:1]:3260'])
    test(`over IPv6, ${address}`, async () => {
      const { connection, secrets } = iscsiInfo('six', unit(64 * MiB), { portals: [address], chap });
      const connections = makeConnections({ runDir });

      const image = await connections.connect(connection, { secrets });
      assert.deepEqual(await connections.find(connection), image);
      assert.deepEqual(await makeConnections({ runDir }).connect(connection, { secrets }), image);
      await connections.disconnect(connection, {});
      assert.deepEqual(iscsiTraces(), clean);
    });

  test('a portal where nobody listens, or nobody answers, is passed over, and leaves nothing', async t => {
    await using silent = await silentPortal();
    for (const [what, first] of [
      ['listens', DEAD],
      ['answers', silent.address],
    ] as const) {
      const { connection, secrets } = iscsiInfo(what, unit(64 * MiB), { portals: [first, FIRST], chap });
      const connections = makeConnections({ runDir });
      const began = performance.now();
      await connections.connect(connection, { secrets });
      say(t, `first portal: nobody ${what}`, began);
      await connections.disconnect(connection, {});
      assert.deepEqual(iscsiTraces(), clean);
    }
  });

  test('a LUN that has become another volume is that one, not what the kernel knew of it', async () => {
    const [number, other] = [unit(64 * MiB), unit(96 * MiB)];
    const before = iscsiInfo('before', number, { portals: [FIRST], chap });
    const connections = makeConnections({ runDir });
    await connections.connect(before.connection, before);
    replaceUnit(number, other);

    // Whoever had it has died and let go of nothing.
    const now = iscsiInfo('now', number, { portals: [FIRST], chap });
    const image = await makeConnections({ runDir }).connect(now.connection, now);
    assert.equal(run('blockdev', '--getsize64', image.path).trim(), String(96 * MiB));
    await connections.disconnect(now.connection, {});
    assert.deepEqual(iscsiTraces(), clean);
  });

  test('and while the old one is in use it is refused', async () => {
    const [number, other] = [unit(64 * MiB), unit(96 * MiB)];
    const before = iscsiInfo('before', number, { portals: [FIRST], chap });
    const connections = makeConnections({ runDir });
    const { path } = await connections.connect(before.connection, before);
    // As a mount has it.
    run('dmsetup', 'create', 'in-use', '--table', `0 8 linear ${path} 0`);
    replaceUnit(number, other);

    const now = iscsiInfo('now', number, { portals: [FIRST], chap });
    await assert.rejects(
      makeConnections({ runDir }).connect(now.connection, now),
      e => isError(e, 'SV_CONNECTION') && /in use/.test(e.message),
    );
    run('dmsetup', 'remove', 'in-use');
    await connections.disconnect(now.connection, {});
    assert.deepEqual(iscsiTraces(), clean);
  });
});

/** Takes connections and says nothing. */
async function silentPortal(): Promise<AsyncDisposable & { readonly address: string }> {
  const sockets = new Set<{ destroy(): void }>();
  const server = createServer(socket => void sockets.add(socket.on('error', () => undefined)));
  await new Promise<void>(resolve => server.listen(3260, '127.0.0.8', resolve));
  return {
    address: '127.0.0.8:3260',
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise(resolve => server.close(resolve));
    },
  };
}
