/** A file system is made on what is blank, and on nothing else. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { makeConnections } from '../../src/storage/connect/connections.ts';
import { readConnection } from '../../src/storage/connect/info.ts';
import { MiB } from './contract.ts';
import { loopOf, PATIENCE_MS, requireMachine, run, SCRATCH } from './guest.ts';

const SIZE = 400 * MiB;

describe('a file system is', { timeout: PATIENCE_MS }, () => {
  let runDir: string;
  before(() => {
    requireMachine();
    runDir = mkdtempSync(join(tmpdir(), 'shiftvol-vm-'));
  });
  const connect = async (device: string, makeFilesystem: 'ext4' | 'xfs', access_mode = 'rw') => {
    const info = { driver_volume_type: 'local', serial: 'v', data: { device_path: device, access_mode } };
    await makeConnections({ runDir, makeFilesystem, localPaths: ['/dev'] }).connect(
      readConnection(info).connection,
      {},
    );
  };
  const typeOf = (device: string) => /TYPE="(\w+)"/.exec(run('sh', '-c', `blkid -p ${device} || true`))?.[1];

  for (const fsType of ['ext4', 'xfs'] as const)
    test(`made on a blank volume: ${fsType}, once`, async () => {
      const device = loopOf(`${SCRATCH}/made-${fsType}.img`, SIZE);
      await connect(device, fsType);
      const first = run('blkid', '-p', device);
      assert.equal(typeOf(device), fsType);
      await connect(device, fsType === 'ext4' ? 'xfs' : 'ext4');
      assert.equal(run('blkid', '-p', device), first);
    });

  const there: readonly (readonly [string, (device: string) => unknown])[] = [
    ['btrfs', device => run('mkfs.btrfs', '-q', device)],
    ['swap', device => run('mkswap', device)],
    ['an LVM physical volume', device => run('pvcreate', '-q', device)],
    ['a partition table', device => poke(device, 446 + 4, Buffer.from([0x83]), [510, Buffer.from([0x55, 0xaa])])],
    ['one byte in the first MiB', device => poke(device, MiB - 1)],
    ['one byte in the last MiB', device => poke(device, SIZE - 1)],
  ];
  for (const [what, put] of there)
    test(`never made on a volume with ${what}`, async () => {
      const device = loopOf(`${SCRATCH}/${what.replaceAll(' ', '-')}.img`, SIZE);
      put(device);
      const before = endsOf(device);
      await connect(device, 'ext4');
      assert.equal(endsOf(device), before);
    });

  test('never made on a volume that is for reading only', async () => {
    const device = loopOf(`${SCRATCH}/read-only.img`, SIZE);
    await connect(device, 'ext4', 'ro');
    assert.equal(typeOf(device), undefined);
  });
});

/** Where file systems have their superblocks; all of it would take a minute in emulation. */
function endsOf(device: string): string {
  const fd = openSync(device, 'r');
  const hash = createHash('sha256');
  for (const at of [0, SIZE - 4 * MiB]) {
    const part = Buffer.alloc(4 * MiB);
    readSync(fd, part, 0, part.length, at);
    hash.update(part);
  }
  closeSync(fd);
  return hash.digest('hex');
}

function poke(
  device: string,
  at: number,
  bytes = Buffer.from('x'),
  ...more: readonly (readonly [number, Buffer])[]
): void {
  const fd = openSync(device, 'r+');
  for (const [where, what] of [[at, bytes] as const, ...more]) writeSync(fd, what, 0, what.length, where);
  closeSync(fd);
}
