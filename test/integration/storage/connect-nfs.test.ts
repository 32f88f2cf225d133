/** A share that is mounted already. What it takes to mount one needs a server, and is tested in the machine (npm run test:vm). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { isError } from '../../../src/errors.ts';
import { statxIfThere } from '../../../src/kernel/statx.ts';
import { makeConnections } from '../../../src/storage/connect/connections.ts';
import { readConnection } from '../../../src/storage/connect/info.ts';
import { cleanShares } from '../../../src/storage/connect/shares.ts';

const SHARE = 'filer.invalid:/export';
let dir: string;
let share: string;

before(() => {
  dir = mkdtempSync(join(tmpdir(), 'shiftvol-connect-'));
  share = join(dir, 'mnt', createHash('md5').update(SHARE).digest('hex'));
  for (const path of [share, join(dir, 'export'), join(dir, 'run')]) mkdirSync(path, { recursive: true });
  execFileSync('mount', ['--bind', join(dir, 'export'), share]);
});
after(() => {
  execFileSync('umount', [share]);
  rmSync(dir, { recursive: true });
});

const volume = (name: string) =>
  readConnection({
    driver_volume_type: 'nfs',
    serial: name,
    data: { export: SHARE, name, format: 'raw', mount_point_base: join(dir, 'mnt') },
  }).connection;

function file(name: string, bytes: number): string {
  const path = join(share, name);
  writeFileSync(path, '');
  truncateSync(path, bytes);
  return path;
}

test('a share that somebody else has mounted is used as it is, and stays', async () => {
  const path = file('volume-1', 1 << 20);
  const connections = makeConnections({ runDir: join(dir, 'run') });

  assert.deepEqual(await connections.connect(volume('volume-1'), {}), { kind: 'file', path });
  assert.deepEqual(await connections.find(volume('volume-1')), { kind: 'file', path });
  truncateSync(path, 2 << 20);
  assert.equal(await connections.extend(volume('volume-1')), 2 << 20);
  await connections.disconnect(volume('volume-1'), {});
  await connections.disconnect(volume('volume-1'), {});
  await cleanShares(join(dir, 'run'));

  assert.equal(statxIfThere(share)?.mountRoot, true);
});

test('a volume that is not on the share is told, and so is one that is a link to elsewhere', async () => {
  const connections = makeConnections({ runDir: join(dir, 'run') });
  await assert.rejects(
    connections.connect(volume('volume-2'), {}),
    e => isError(e, 'SV_CONNECTION') && /no such file on the share filer\.invalid:\/export/.test(e.message),
  );
  symlinkSync('/etc/shadow', join(share, 'volume-3'));
  await assert.rejects(connections.connect(volume('volume-3'), {}), e => isError(e, 'SV_CONNECTION'));
});

test('a share that nobody has mounted and that cannot be mounted is an error, and leaves nothing', async () => {
  const runDir = join(dir, 'run');
  const elsewhere = readConnection({
    driver_volume_type: 'nfs',
    serial: 'v',
    data: { export: 'filer.invalid:/other', name: 'v', format: 'raw', mount_point_base: join(dir, 'mnt') },
  }).connection;
  const connections = makeConnections({ runDir });
  await assert.rejects(connections.connect(elsewhere, {}), e => isError(e, 'SV_TOOL', 'SV_HOST'));
  await connections.disconnect(elsewhere, {});
  assert.deepEqual(await connections.find(elsewhere), undefined);
});
