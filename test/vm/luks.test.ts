import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { Secrets } from '../../src/engine/secrets.ts';
import { isError } from '../../src/errors.ts';
import { makeConnections } from '../../src/storage/connect/connections.ts';
import { readConnection } from '../../src/storage/connect/info.ts';
import { keysInDirectory } from '../../src/storage/connect/keys.ts';
import { connectorContract, MiB, type Service } from './contract.ts';
import { growLoop, loopOf, PATIENCE_MS, requireMachine, run, SCRATCH, sparseFile } from './guest.ts';

const SIZE = 64 * MiB;
const HEADER = 16 * MiB;
/** A passphrase that goes through argon2 in emulation would take ten seconds each time. */
const QUICK = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];
const PASSPHRASE = '6b6579';
/** Where the volumes of these tests are. */
const localPaths = ['/dev', SCRATCH];
const secrets = new Secrets({ luksPassphrase: PASSPHRASE });

const encrypted = (path: string, name: string, encryption_key_id?: string) =>
  readConnection(
    { driver_volume_type: 'local', serial: `id-${name}`, data: { device_path: path, encrypted: true } },
    { encryption: { provider: 'luks2', control_location: 'front-end', encryption_key_id } },
  ).connection;

function format(device: string): void {
  const key = join(SCRATCH, 'key');
  writeFileSync(key, PASSPHRASE, { mode: 0o600 });
  run('cryptsetup', 'luksFormat', '--batch-mode', '--type', 'luks2', ...QUICK, '--key-file', key, device);
}

const mappings = () =>
  run('dmsetup', 'ls')
    .split('\n')
    .filter(line => line.startsWith('shiftvol-'));

/** Every volume has a header and a file system behind it already, as one that was attached before. */
const service: Service = {
  start: () => void run('modprobe', 'dm-crypt'),
  volume(name) {
    const file = `${SCRATCH}/luks-${name}.img`;
    const device = loopOf(file, SIZE + HEADER);
    format(device);
    const key = join(SCRATCH, 'key');
    run('cryptsetup', 'open', '--key-file', key, device, 'prepared');
    run('mke2fs', '-q', '-t', 'ext4', '/dev/mapper/prepared');
    run('cryptsetup', 'close', 'prepared');
    return {
      connection: encrypted(device, name),
      secrets,
      sizeBytes: SIZE,
      afterwards: { kind: 'device', path: device },
      missing: encrypted('/dev/none', 'none'),
      grow: size => growLoop(device, file, size + HEADER),
    };
  },
  traces: mappings,
};
connectorContract('LUKS on a local volume', service);

describe('an encrypted volume', { timeout: PATIENCE_MS }, () => {
  let runDir: string;
  before(() => {
    requireMachine();
    run('modprobe', 'dm-crypt');
    runDir = mkdtempSync(join(tmpdir(), 'shiftvol-vm-'));
  });

  test('that is blank is refused, unless a file system is to be made: then it gets a header and one', async () => {
    const device = loopOf(`${SCRATCH}/blank.img`, SIZE);
    const connection = encrypted(device, 'blank');
    await assert.rejects(makeConnections({ runDir, localPaths }).connect(connection, { secrets }), e =>
      isError(e, 'SV_CONNECTION'),
    );
    assert.equal(run('cmp', '-n', String(SIZE), device, '/dev/zero'), '');

    const making = makeConnections({ runDir, localPaths, makeFilesystem: 'ext4' });
    const { path } = await making.connect(connection, { secrets });
    assert.match(run('blkid', '-p', path), /TYPE="ext4"/);
    assert.doesNotMatch(run('cryptsetup', 'luksDump', device), /shiftvol-fresh/);
    await making.disconnect(connection, {});
    assert.deepEqual(mappings(), []);
  });

  test('whose first file system was cut off gets it at the next time, and one with data never', async () => {
    const device = loopOf(`${SCRATCH}/cut.img`, SIZE);
    const connection = encrypted(device, 'cut');
    format(device);
    const making = makeConnections({ runDir, localPaths, makeFilesystem: 'ext4' });
    const noise = await making.connect(connection, { secrets });
    assert.throws(() => run('blkid', '-p', noise.path), /ended with 2/);
    await making.disconnect(connection, {});

    run('cryptsetup', 'config', '--label', 'shiftvol-fresh', device);
    const made = await making.connect(connection, { secrets });
    assert.match(run('blkid', '-p', made.path), /TYPE="ext4"/);
    await making.disconnect(connection, {});
  });

  test('is opened with the key of a file, by the id of the key or of the volume', async () => {
    const device = loopOf(`${SCRATCH}/file-key.img`, SIZE);
    format(device);
    const keys = join(runDir, 'keys');
    mkdirSync(keys, { mode: 0o700 });
    const connections = makeConnections({ runDir, localPaths, keys: [keysInDirectory(keys)] });
    const connection = encrypted(device, 'file-key', 'a1b2');
    await assert.rejects(
      connections.connect(connection, {}),
      e => isError(e, 'SV_CONNECTION') && /a1b2/.test(e.message),
    );

    writeFileSync(join(keys, 'a1b2'), `${PASSPHRASE}\n`, { mode: 0o600 });
    assert.match((await connections.connect(connection, {})).path, /^\/dev\/dm-/);
    await connections.disconnect(connection, {});
    rmSync(keys, { recursive: true });
  });

  test('with a wrong key is not opened, and the key is in no text', async () => {
    const device = loopOf(`${SCRATCH}/wrong.img`, SIZE);
    format(device);
    await assert.rejects(
      makeConnections({ runDir, localPaths }).connect(encrypted(device, 'wrong'), {
        secrets: new Secrets({ luksPassphrase: 'geheim' }),
      }),
      e => isError(e, 'SV_CONNECTION') && !/geheim/.test(`${e.stack} ${e.cause}`),
    );
    assert.deepEqual(mappings(), []);
  });

  test('that is a file is opened through a loop device, which goes with it', async () => {
    const file = sparseFile(`${SCRATCH}/plain-file.img`, SIZE);
    const connection = encrypted(file, 'plain-file');
    const making = makeConnections({ runDir, localPaths, makeFilesystem: 'xfs' });
    const refused = await making.connect(connection, { secrets }).then(
      () => undefined,
      (error: unknown) => error,
    );
    // mkfs.xfs wants 300 MB: what was begun stays what it was, and is let go.
    assert.ok(isError(refused, 'SV_TOOL'));
    await making.disconnect(connection, {});
    assert.deepEqual(mappings(), []);
    assert.doesNotMatch(readFileSync('/proc/mounts', 'utf8') + run('losetup', '--list'), /plain-file/);
  });
});
