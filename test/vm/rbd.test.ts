import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { explain, isError } from '../../src/errors.ts';
import { makeConnections } from '../../src/storage/connect/connections.ts';
import { connectorContract } from './contract.ts';
import { PATIENCE_MS, requireMachine, run } from './guest.ts';
import { CEPH_USER, cephKeyring, cephService, rbdInfo, startCeph } from './services/ceph.ts';

connectorContract('RBD, by the kernel, with the keyring of connection_info', cephService('kernel'));

describe('RBD and who may use it', { timeout: PATIENCE_MS }, () => {
  let runDir: string;
  let keyring: string;
  before(async () => {
    requireMachine();
    await startCeph();
    runDir = mkdtempSync(join(tmpdir(), 'shiftvol-vm-'));
    keyring = cephKeyring();
  });
  after(() => rmSync(runDir, { recursive: true, force: true }));
  const image = (name: string): string => {
    run('rbd', 'create', name, '--size', '64');
    return name;
  };
  const keyOf = (text: string): string => /key = (\S+)/.exec(text)?.[1] ?? assert.fail('a keyring has a key');

  test('the key is in no argument of a program, and in no file afterwards', async () => {
    const { connection, secrets } = rbdInfo(image('secret'), { keyring });
    const connections = makeConnections({ runDir });
    const heard = '/tmp/arguments';
    using _programs = listening(['rbd', 'rbd-nbd', 'modprobe'], heard);

    await connections.connect(connection, { secrets });
    await connections.disconnect(connection, {});

    const said = readFileSync(heard, 'utf8');
    assert.match(said, /rbd map .*--id=volumes/);
    assert.ok(!said.includes(keyOf(keyring)), 'the key is no argument');
    assert.equal(run('find', runDir, '-type', 'f'), '');
  });

  test('a key that is not right is refused, and is in no text', async () => {
    const key = keyOf(run('ceph-authtool', '--gen-print-key').replace(/^/, 'key = '));
    const { connection, secrets } = rbdInfo(image('wrong'), { keyring: `[client.${CEPH_USER}]\n\tkey = ${key}\n` });

    const refused = await makeConnections({ runDir })
      .connect(connection, { secrets })
      .then(
        () => undefined,
        (error: unknown) => error,
      );

    assert.ok(isError(refused, 'SV_CONNECTION'), explain(refused));
    assert.ok(!explain(refused).includes(key) && !JSON.stringify(refused).includes(key));
    assert.equal(run('find', runDir, '-type', 'f'), '');
  });

  test('without a keyring in connection_info it is the one of this host', async () => {
    const { connection } = rbdInfo(image('hosts-own'));
    const connections = makeConnections({ runDir });
    await assert.rejects(connections.connect(connection, {}), e => isError(e, 'SV_CONNECTION'));

    writeFileSync(`/etc/ceph/ceph.client.${CEPH_USER}.keyring`, keyring, { mode: 0o600 });
    assert.match((await connections.connect(connection, {})).path, /^\/dev\/rbd\d+$/);
    await connections.disconnect(connection, {});
    rmSync(`/etc/ceph/ceph.client.${CEPH_USER}.keyring`);
  });

  test('a volume that another host has open is refused, and taken when it is free; for reading only it is taken', async () => {
    const { connection, secrets } = rbdInfo(image('elsewhere'), { keyring });
    const connections = makeConnections({ runDir });
    {
      await using _other = await watching('elsewhere');
      await assert.rejects(
        connections.connect(connection, { secrets }),
        e => isError(e, 'SV_VOLUME_IN_USE') && /127\.0\.0\.1/.test(e.message),
      );
      assert.equal(await connections.find(connection), undefined);
      const readOnly = { ...connection, readOnly: true };
      await connections.connect(readOnly, { secrets });
      await connections.disconnect(readOnly, {});
    }
    await connections.connect(connection, { secrets });
    await connections.disconnect(connection, {});
  });
});

connectorContract('RBD, by rbd-nbd, with the monitors of connection_info', cephService('nbd'));

/** In the place of these programs others that tell what they are called with. */
function listening(programs: readonly string[], heard: string): Disposable {
  writeFileSync(heard, '');
  const paths = programs.map(name => `/usr/local/sbin/${name}`);
  for (const [i, path] of paths.entries()) {
    const real = run('which', programs[i] ?? '').trim();
    writeFileSync(path, `#!/bin/sh\necho "${programs[i]} $*" >> ${heard}\nexec ${real} "$@"\n`);
    chmodSync(path, 0o755);
  }
  return {
    [Symbol.dispose]() {
      for (const path of paths) rmSync(path);
    },
  };
}

/** A client that has the image open, as one of another host would. */
async function watching(name: string): Promise<AsyncDisposable> {
  const child: ChildProcess = spawn('rbd', ['watch', name], { stdio: ['pipe', 'ignore', 'inherit'] });
  const ended = once(child, 'close');
  while (!run('rbd', 'status', name).includes('watcher=')) await sleep(200);
  return {
    async [Symbol.asyncDispose]() {
      child.kill('SIGINT');
      await ended;
      while (run('rbd', 'status', name).includes('watcher=')) await sleep(500);
    },
  };
}
