import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { makeConnections } from '../../../../src/storage/connect/connections.ts';
import { readConnection } from '../../../../src/storage/connect/info.ts';

let root: string;
before(() => {
  root = mkdtempSync(join(tmpdir(), 'shiftvol-nvme-'));
});
after(() => rmSync(root, { recursive: true }));

/** As the kernel shows a subsystem of one controller with one namespace. */
function host(name: string, transport: string, nqn: string): string {
  const sysRoot = join(root, name);
  const put = (path: string, text: string) => {
    mkdirSync(join(sysRoot, path, '..'), { recursive: true });
    writeFileSync(join(sysRoot, path), `${text}\n`);
  };
  for (const dir of ['class/nvme/nvme0', 'class/nvme-subsystem/nvme-subsys0']) put(`${dir}/subsysnqn`, nqn);
  put('class/nvme/nvme0/transport', transport);
  put('class/nvme-subsystem/nvme-subsys0/nvme0/transport', transport);
  put('class/nvme-subsystem/nvme-subsys0/nvme0n1/nsid', '1');
  put('class/nvme/nvme0/nvme0n1/nsid', '1');
  return sysRoot;
}

const find = async (sysRoot: string, target_nqn: string) => {
  const data = { target_nqn, ns_id: 1, portals: [['192.0.2.1', 4420, 'tcp']] };
  const { connection } = readConnection({ driver_volume_type: 'nvmeof', serial: 'v', data });
  return await makeConnections({ runDir: root, sysRoot }).find(connection);
};

test('a disk in this host is no volume, whoever names its subsystem', async () => {
  const nqn = 'nqn.2014.08.org.nvmexpress:80868086disk';
  assert.equal(await find(host('disk', 'pcie', nqn), nqn), undefined);
  assert.deepEqual(await find(host('remote', 'tcp', nqn), nqn), { kind: 'device', path: '/dev/nvme0n1' });
});
